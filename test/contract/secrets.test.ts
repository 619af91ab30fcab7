/** Only keyed hashes are stored: after its use, no credential is left in a file or in the log. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";
import { raw } from "../support/raw.ts";
import { doorway, expectOk } from "./doorway.ts";

const door = doorway();
const READ = "/sdapi/v1/sd-models";

/** Every secret that was shown once, by its kind. */
const shown: Record<string, string> = {};

const admin = (path: string, token: string, body?: object) =>
  raw(door.portico.url, {
    method: body === undefined ? "GET" : "POST",
    target: `/admin/v1${path}`,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });

/** Creates secrets, uses them in every way that may be logged or kept, and has them refused, rotated and revoked. */
beforeAll(async () => {
  const { portico } = door;
  const tenant = await door.tenant();
  const key = await portico.admin<{ id: string; key: string }>("POST", `/tenants/${tenant}/keys`, { name: "a key" });
  const ways = [{ authorization: `Bearer ${key.key}` }, { "x-api-key": key.key }];
  for (const headers of [...ways, { authorization: `Basic ${Buffer.from(`u:${key.key}`).toString("base64")}` }])
    expectOk(await door.ask(READ, { key: null, headers }));
  expectOk(await door.paint({}, { key: key.key, headers: { "x-request-id": "kept" } }));
  expectOk(await door.speak({ text: "a secret" }, { key: key.key }));
  expect((await door.ask(READ, { key: `${key.key}x` })).status).toBe(401);
  expect((await door.ask(`${READ}?key=${key.key}`, { key: null })).status).toBe(401);
  const next = await portico.admin<{ key: string }>("POST", `/keys/${key.id}/rotate`, { overlap_s: 60 });
  expectOk(await door.ask(READ, { key: next.key }));
  await portico.admin("DELETE", `/keys/${key.id}`);

  const operator = await portico.admin<{ id: string; token: string }>("POST", "/operators", {
    name: "day-shift",
    role: "admin",
  });
  expectOk(await admin("/services", operator.token));
  expect((await admin("/tenants", operator.token, { name: "t" })).status).toBe(201);
  expect((await admin("/tenants", `${operator.token}x`, { name: "t" })).status).toBe(401);
  const again = await portico.admin<{ token: string }>("POST", `/operators/${operator.id}/rotate`, { overlap_s: 60 });
  expectOk(await admin("/services", again.token));

  const [{ card } = { card: "" }] = door.park.cards;
  const agent = await portico.admin<{ token: string }>("POST", `/cards/${card}/token`);
  expect((await admin(`/cards/${card}/heartbeat`, agent.token, { running: 0 })).status).toBe(204);
  expect((await admin(`/cards/${card}/heartbeat`, `${agent.token}x`, { running: 0 })).status).toBe(401);

  Object.assign(shown, {
    "a key": key.key,
    "a rotated key": next.key,
    "an operator's token": operator.token,
    "a rotated operator's token": again.token,
    "a card's token": agent.token,
  });
  // Batched writes are finished by then.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
});

/** The secret part in every form that a database or a log might give it. */
function formsOf(text: string): Buffer[] {
  const secret = text.split("_").at(-1) ?? "";
  const bytes = Buffer.from(secret);
  // Base64 depends on the secret's offset in a group of three bytes, and its ends on the bytes beside it.
  const encoded = [0, 1, 2].map((shift) => {
    const whole = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64");
    return Buffer.from(whole.slice(4, -4));
  });
  return [bytes, Buffer.from(secret, "utf16le"), Buffer.from(bytes.toString("hex")), ...encoded];
}

test("no file on disk and no log contains a key or a token", async () => {
  expect(Object.keys(shown)).toHaveLength(5);
  const entries = await readdir(door.portico.stateDir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = await Promise.all(files.map((file) => readFile(file)));
  const named = (part: string) => files.filter((file) => file.includes(part)).length;
  for (const part of ["/d1/", "/do/", "/r2/", "portico.log"]) expect(named(part), part).toBeGreaterThan(0);
  // Proof that a secret would be found: the key's id is.
  const ids = Buffer.from(shown["a key"]?.split("_")[2] ?? "");
  expect(contents.some((content) => content.includes(ids))).toBe(true);
  for (const [what, text] of Object.entries(shown)) {
    for (const form of formsOf(text)) {
      const found = files.filter((_, i) => contents[i]?.includes(form));
      expect(found, what).toEqual([]);
    }
  }
});

describe("secret scanners find secrets by the expressions of the README", () => {
  for (const name of ["README.md", "README.zh-CN.md"]) {
    test(name, async () => {
      const text = await readFile(join(ROOT, name), "utf8");
      const expressions = [...text.matchAll(/^(pt\S*\[0-9A-Za-z\]\S*)$/gm)].map(([, found = ""]) => new RegExp(found));
      expect(expressions.length).toBeGreaterThan(0);
      for (const [what, secret] of Object.entries(shown))
        expect(
          expressions.filter((expression) => expression.exec(`x=${secret};`)?.[0] === secret),
          what,
        ).toHaveLength(1);
    });
  }
});
