import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporaryFolders } from "../support/folders.ts";
import { type Portico, startPortico } from "../support/portico.ts";
import { eventually } from "../line/caller.ts";
import { jsonOf, portico, rowsOf } from "./command.ts";

/** Long enough that a test can see the run while it runs. */
const RUN_MS = 8_000;
const ORIGIN = "http://127.0.0.1:9";

let front: Portico;
const newFolder = temporaryFolders();
const ask = (...args: string[]) => portico(args, { url: front.url, token: front.adminToken });

beforeAll(async () => {
  front = await startPortico({ park: { service: { service_ms: RUN_MS } } });
});
afterAll(() => front.stop());

test("a service is created by flags, changed by file and standard input, paused, resumed and deleted", async () => {
  const made = await ask(
    "services",
    "put",
    "sketch",
    "--kind",
    "image",
    "--route",
    "/sketch/",
    "--set",
    "queue.max=9",
    "--json",
  );
  expect(await jsonOf(made)).toMatchObject({ id: "sketch", route: "/sketch/", queue: { max: 9, timeout_s: 60 } });

  const file = join(newFolder(), "service.json");
  writeFileSync(file, JSON.stringify({ queue: { max: 5, timeout_s: 7 }, retry: { tries: 1 } }));
  const changed = await ask(
    "services",
    "put",
    "sketch",
    "--file",
    file,
    "--set",
    "queue.max=6",
    "--set",
    "abandon=cancel",
    "--json",
  );
  expect(await jsonOf(changed)).toMatchObject({
    queue: { max: 6, timeout_s: 7 },
    retry: { tries: 1 },
    abandon: "cancel",
  });

  const input = JSON.stringify({ model_version: "v2" });
  const piped = portico(["services", "put", "sketch", "--file", "-", "--json"], {
    url: front.url,
    token: front.adminToken,
    input,
  });
  expect(await jsonOf(piped)).toMatchObject({ model_version: "v2", queue: { max: 6 } });

  expect(await jsonOf(ask("services", "pause", "sketch", "--yes", "--json"))).toMatchObject({ paused: true });
  const row = rowsOf(await ask("services", "list")).find(([id]) => id === "sketch");
  expect(row).toEqual(["sketch", "image", "/sketch/", "paused", "0", "0", "0.0 s", "-"]);
  expect(await jsonOf(ask("services", "resume", "sketch", "--json"))).toMatchObject({ paused: false });
  expect(rowsOf(await ask("services", "show", "sketch"))).toContainEqual(["queue.max", "6"]);

  expect(await ask("services", "delete", "sketch", "--yes", "--json")).toEqual({ code: 0, out: "", err: "" });
  expect((await ask("services", "show", "sketch")).code).toBe(1);
});

test("a missing file, or one without a JSON object, is reported before anything is sent", async () => {
  const file = join(newFolder(), "wrong.json");
  writeFileSync(file, "[1]");
  expect(await ask("services", "put", "portrait", "--file", file)).toMatchObject({
    code: 2,
    err: `portico: ${file} holds no JSON object.\n`,
  });
  const missing = await ask("services", "put", "portrait", "--file", "/nowhere.json");
  expect([missing.code, missing.err]).toEqual([2, expect.stringContaining("/nowhere.json cannot be read (ENOENT")]);
});

test("a card can be added, drained, activated, disabled, given a new token, removed and deleted", async () => {
  const made = await ask("cards", "put", "portrait", "spare", "--origin", ORIGIN, "--server", "gpu-09", "--gpu", "0");
  const token = rowsOf(made).find(([name]) => name === "token")?.[1];
  expect(token).toMatch(/^ptc_/);
  expect(made.err).toContain("not shown again");
  const again = await ask("cards", "add", "cosyvoice2", "spare", "--origin", ORIGIN, "--slots", "3", "--json");
  expect(await jsonOf(again)).toMatchObject({
    slots: 3,
    listings: [{ service: "cosyvoice2" }, { service: "portrait" }],
  });

  expect(await jsonOf(ask("cards", "drain", "spare", "--json"))).toMatchObject({ state: "draining" });
  expect(await jsonOf(ask("cards", "activate", "spare", "--json"))).toMatchObject({ state: "active" });
  expect((await ask("cards", "disable", "spare")).code).toBe(2);
  expect(await jsonOf(ask("cards", "disable", "spare", "--yes", "--json"))).toMatchObject({ state: "disabled" });

  const renewed = await jsonOf<{ token: string }>(ask("cards", "token", "spare", "--yes", "--json"));
  expect(renewed.token).not.toBe(token);
  expect(rowsOf(await ask("cards", "show", "spare"))).toContainEqual(["state", "disabled"]);

  for (const service of ["portrait", "cosyvoice2"]) {
    expect((await ask("cards", "remove", service, "spare")).code).toBe(2);
    expect((await ask("cards", "remove", service, "spare", "--yes")).out).toBe(`Card spare is out of ${service}.\n`);
  }
  expect((await ask("cards", "delete", "spare")).code).toBe(2);
  expect((await ask("cards", "delete", "spare", "--yes")).out).toBe("Card spare is deleted.\n");
  expect((await ask("cards", "show", "spare")).code).toBe(1);
  const listed = await ask("cards", "delete", "gpu-01-0", "--yes");
  expect([listed.code, listed.err]).toEqual([
    1,
    expect.stringMatching(/still listed in cosyvoice2, portrait.*card_listed/),
  ]);
});

test("cards are listed with their load, and status shows the cluster with or without a token", async () => {
  const list = rowsOf(await ask("cards", "list"));
  expect(list[1]).toEqual(["gpu-01-0", "gpu-01", "0", "active", "0/2", "ok", "-", "cosyvoice2, portrait"]);
  const { out } = await ask("status");
  expect(out).toMatch(/^healthy  portico  0\/12 slots in use on 3 servers, 0 queued/);
  expect(out).toMatch(/^portrait +░+ +0\/12 in use +0 queued +6\/6 cards take work$/m);
  expect(out).toMatch(/^gpu-03-1 +gpu-03 +active +░░ 0\/2 +ok$/m);
  const open = await portico(["status"], { url: front.url });
  expect(open.code).toBe(0);
  expect(open.out).toContain("Cards are for operators: set PORTICO_TOKEN.");
  expect(await jsonOf(ask("status", "--json"))).toMatchObject({ status: "healthy", total_capacity: 12 });
});

test("a held slot shows in leases and in the status bar, and its card cannot be deleted", async () => {
  const key = await front.key();
  const left = new AbortController();
  const run = fetch(`${front.url}/sdapi/v1/txt2img`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ prompt: "a harbour", width: 32, height: 32, steps: 30 }),
    signal: left.signal,
  }).catch(() => null);
  await eventually("a slot is held", async () => {
    const { data } = await front.admin<{ data: unknown[] }>("GET", "/leases");
    return data.length === 1;
  });
  const [headings, lease] = rowsOf(await ask("leases"));
  expect(headings).toEqual(["CARD", "NUMBER", "STATE", "AGE", "SERVICE", "TENANT", "REQUEST"]);
  expect(lease?.join(" ")).toMatch(/^gpu-\S+ \d+ leased [\d.]+ s portrait ten_\w+ req_\w+$/);
  expect(await jsonOf(ask("leases", "--json"))).toMatchObject({ data: [{ service: "portrait" }], next_cursor: null });
  expect((await ask("status")).out).toMatch(/^portrait +█+░+ +1\/12 in use/m);
  const [card = ""] = lease ?? [];
  for (const service of ["portrait", "cosyvoice2"]) await ask("cards", "remove", service, card, "--yes");
  const busy = await ask("cards", "delete", card, "--yes");
  expect([busy.code, busy.err]).toEqual([1, expect.stringContaining("card_busy")]);
  left.abort();
  await run;
  await eventually(
    "its slot is free and it can be deleted",
    async () => (await ask("cards", "delete", card, "--yes")).code === 0,
  );
});
