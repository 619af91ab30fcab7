import { createServer, type Server } from "node:http";
import { afterEach, expect, test } from "vitest";
import { Api } from "../../cli/api.ts";
import { freePort } from "../support/local.ts";
import { portico, type Setting } from "./command.ts";
import { refusal, type Said, type Scripted, scripted } from "./scripted.ts";

let api: Scripted | undefined;
afterEach(() => api?.stop());

async function asked(args: string[], say: (before: number) => Said, setting: Setting = {}) {
  api = await scripted((_, before) => say(before));
  return portico(args, { url: api.url, token: "secret-token", ...setting });
}

test("an error shows its message, reason, field and request id, and what to do next", async () => {
  const cases: [Said, string][] = [
    [refusal(403, { message: "No.", reason: "role" }), "No (role, request req_test). Ask an operator with that role"],
    [
      refusal(404, { message: "No.", code: "not_found" }),
      "No (not_found, request req_test). The same command's `list` shows",
    ],
    [refusal(409, { message: "No.", code: "conflict" }), "No (conflict, request req_test). Somebody else changed it"],
    [refusal(500, { message: "No.", code: "internal" }), "No (internal, request req_test). Try again; "],
  ];
  for (const [said, words] of cases) {
    const { code, out, err } = await asked(["leases"], () => said);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toContain(`portico: ${words}`);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
    await api?.stop();
  }
  const later = { ...refusal(429, { message: "No.", reason: "requests" }), headers: { "retry-after": "7" } };
  expect((await asked(["leases"], () => later)).err).toBe(
    "portico: No (requests, request req_test). Try again in 7 s.\n",
  );
});

test("text from a deployment cannot move the cursor or add lines", async () => {
  const evil = "a\u{1b}[2J\nportico: done\u{202e}";
  const { err } = await asked(["leases"], () => refusal(400, { message: evil, reason: evil }));
  expect(err).toMatch(/^portico: [^\p{Cc}\p{Bidi_Control}]*\n$/u);
  await api?.stop();
  const row = { id: evil, name: evil, limits: {}, created_at: evil };
  const { out } = await asked(["tenants", "list"], () => ({ body: { data: [row], next_cursor: null } }));
  expect(out).toMatch(/^[^\p{Cc}\p{Bidi_Control}]*\n[^\p{Cc}\p{Bidi_Control}]*\n$/u);
});

test("an answer that is not in Portico's format is reported as such", async () => {
  const page = { status: 502, headers: { "content-type": "text/html" }, body: "<h1>Bad gateway</h1>" };
  expect((await asked(["leases"], () => page)).err).toBe(
    "portico: The server answered 502, but not in Portico's format: <h1>Bad gateway</h1>. Check the address (PORTICO_URL or --url).\n",
  );
  await api?.stop();
  expect((await asked(["leases"], () => ({ body: "hello" }))).err).toContain(
    "answered 200, but not in Portico's format: hello.",
  );
  await api?.stop();
  expect((await asked(["leases"], () => ({ body: { data: 1 } }))).err).toContain("The answer to /leases is no list.");
});

test("redirects are not followed, so that the token goes nowhere else", async () => {
  const other = await scripted(() => ({ body: {} }));
  const { code, err } = await asked(["leases"], () => ({ status: 307, headers: { location: other.url } }));
  expect([code, err]).toEqual([1, expect.stringContaining("answers with a redirect, which is not followed")]);
  expect(other.heard).toEqual([]);
  await other.stop();
});

test("a refused or broken connection is reported in plain words", async () => {
  const url = `http://127.0.0.1:${await freePort()}`;
  expect((await portico(["leases"], { url, token: "t" })).err).toBe(
    `portico: Nothing answers at ${url.slice(7)}: the connection was refused. Is it running? Locally: npm start.\n`,
  );
  expect((await asked(["leases"], () => null)).err).toMatch(
    /^portico: The connection to \S+ broke \(\w+\)\. Try again\.\n/,
  );
  await api?.stop();
  expect((await asked(["tenants", "create", "x"], () => null)).err).toMatch(
    /broke \(\w+\)\. It may have been done; look before you repeat it\.\n$/,
  );
});

test("a list ends at an empty page, even if that page has a cursor", async () => {
  const { code, out } = await asked(["leases", "--json"], () => ({ body: { data: [], next_cursor: "again" } }));
  expect([code, out]).toEqual([0, '{"data":[],"next_cursor":null}\n']);
});

test("a list is fetched page by page until it has enough rows", async () => {
  const row = { card: "c", number: 1, age_ms: 1 };
  const page = (length: number, next: string | null) => ({
    body: { data: Array.from({ length }, () => row), next_cursor: next },
  });
  const { out, err } = await asked(["leases", "--rows", "250", "--json"], (before) =>
    before === 0 && api?.heard.length === 1 ? page(200, "two") : page(50, "three"),
  );
  expect(api?.heard.map(({ call }) => call)).toEqual([
    "GET /admin/v1/leases?limit=200",
    "GET /admin/v1/leases?cursor=two&limit=50",
  ]);
  const list: { data: unknown[]; next_cursor: string } = JSON.parse(out);
  expect([list.data.length, list.next_cursor]).toEqual([250, "three"]);
  expect(err).toContain("Only the first 250 rows");
});

test("deleting a tenant repeats the call until nothing is left and reports progress", async () => {
  const tenant = { id: "ten_1", name: "studio" };
  api = await scripted(({ call }, before) => {
    if (call.startsWith("GET")) return { body: tenant };
    return before < 2 ? { status: 202, body: tenant } : { status: 204 };
  });
  const ran = await portico(["tenants", "delete", "ten_1", "--yes"], { url: api.url, token: "t" });
  expect(ran).toEqual({
    code: 0,
    out: "Tenant studio is deleted.\n",
    err: "Removing the results of studio: 1 call done, some are left.\nRemoving the results of studio: 2 calls done, some are left.\n",
  });
});

test("deleting a tenant succeeds if another operator deletes it meanwhile", async () => {
  const tenant = { id: "ten_1", name: "studio" };
  api = await scripted(({ call }, before) => {
    if (call.startsWith("GET")) return { body: tenant };
    return before === 0 ? { status: 202, body: tenant } : refusal(404, { message: "No.", code: "not_found" });
  });
  expect((await portico(["tenants", "delete", "ten_1", "--yes"], { url: api.url, token: "t" })).code).toBe(0);
});

test("wrong usage exits with code 2 and sends nothing", async () => {
  for (const args of [
    [],
    ["keys"],
    ["nothing"],
    ["keys", "create"],
    ["keys", "create", "t", "--unknown"],
    ["keys", "rotate", "k", "--overlap", "soon"],
    ["keys", "expire", "k", "soon"],
    ["tenants", "edit", "t", "--limit", "burst"],
    ["leases", "--rows", "0"],
    ["usage", "t", "--csv", "--json"],
    ["operators", "create", "night-shift"],
  ]) {
    const ran = await asked(args, () => ({ body: {} }));
    expect([ran.code, ran.out, api?.heard], args.join(" ")).toEqual([2, "", []]);
    expect(ran.err).not.toBe("");
    await api?.stop();
  }
});

test("the token never appears in any output", async () => {
  for (const args of [["leases"], ["--help"], ["leases", "--rows", "x"], ["tenants", "delete", "t"]]) {
    const ran = await asked(args, () => refusal(401, { message: "No.", reason: "unknown" }));
    expect(ran.out + ran.err, args.join(" ")).not.toContain("secret-token");
    await api?.stop();
  }
});

test("a call that gets no complete answer in time fails", async () => {
  const server = createServer((request, response) => {
    if (request.method === "GET") response.write("[");
  });
  const url = await listening(server);
  const calls = new Api({ url, token: "t", tokenFrom: "" }, 200);
  await expect(calls.call("GET", "/x")).rejects.toThrow(/did not answer within 0\.2 s\.$/);
  const lost = await calls.call("POST", "/x", {}).catch((error: unknown) => error);
  expect(lost).toMatchObject({ exitCode: 1, next: "It may have been done; look before you repeat it." });
  server.closeAllConnections();
  server.close();
});

test("an answer beyond 64 MiB is not read to its end", async () => {
  const server = createServer((_, response) => {
    response.writeHead(200);
    const more = () => {
      while (response.write(Buffer.alloc(1024 * 1024))) continue;
    };
    response.on("drain", more);
    more();
  });
  const ran = await portico(["status"], { url: await listening(server) });
  server.closeAllConnections();
  server.close();
  expect(ran).toMatchObject({
    code: 1,
    err: "portico: The answer is longer than 64 MiB. Ask for fewer rows: --rows.\n",
  });
});

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return `http://127.0.0.1:${address.port}`;
}
