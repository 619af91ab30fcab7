/** Attacks through the form of input: hostile JSON, numbers out of range, duplicate names, look-alike ids. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorOf, expectOk, linksOf } from "../contract/doorway.ts";
import { listOrigin, Origin } from "../contract/origin.ts";
import { filled } from "./operations.ts";
import { bodyAnd, bodyWith, fieldsOf, scratch } from "./scratch.ts";

const attack = scratch();
const { door } = attack;
let origin: Origin;

const RUN = "/pictures/sdapi/v1/txt2img";
/** Numbers as written in JSON. */
const NUMBERS = ["1e400", "-1e400", "1e308", "-1", "-0", "0", "0.1", "1e-400", "9007199254740993", "1".repeat(400)];
/** Names with a meaning in JavaScript. */
const POLLUTION = [
  '{"__proto__":{"width":64,"polluted":"yes"}}',
  '{"constructor":{"prototype":{"polluted":"yes"}}}',
  '{"a":{"__proto__":{"polluted":"yes"}}}',
  '{"toString":1,"valueOf":1,"hasOwnProperty":1,"then":1,"toJSON":1}',
  '{"__proto__":null}',
  '{"__proto__":[]}',
];
const nested = (levels: number, open = "[", close = "]") => open.repeat(levels) + close.repeat(levels);
const DEEP = [
  nested(50_000),
  nested(500_000),
  `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`,
  nested(2_000, '[{"a":', "}]").replace('"a":}', '"a":1}'),
];

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/pictures/sdapi/v1/" });
});
afterAll(() => origin.close());

const run = (body: string) => door.ask(RUN, { body, headers: { "content-type": "application/json" } });

describe("JSON", () => {
  test("with names such as __proto__ and constructor changes no other object", async () => {
    for (const json of POLLUTION) {
      for (const call of attack.withBody) {
        const answers = [await attack.put(call, json)];
        for (const { path, schema } of fieldsOf(call.body ?? {})) {
          if (schema.type === "object") answers.push(await attack.put(call, bodyWith(call, path, json)));
        }
        for (const { status, text } of answers) expect(status, `${call.path} ${json}: ${text}`).toBeLessThan(500);
      }
      expect((await run(json)).status).toBeLessThan(500);
      expect((await run(`{"seed":1,"x":${json}}`)).status).toBeLessThan(500);
    }
    const { id, ...made }: Record<string, unknown> = await door.portico.admin("POST", "/tenants", { name: "plain" });
    expect(id).toMatch(/^ten_/);
    expect(Object.keys(made).toSorted()).toEqual(["created_at", "limits", "name", "origins", "state", "weight"]);
    origin.seen.length = 0;
    expectOk(await run('{"seed":2}'));
    expect(origin.taken().body.toString()).toBe('{"seed":2}');
    const { before, now } = await attack.others();
    expect(now).toEqual(before);
  });

  test("nested thousands of levels deep is refused or passed on, and breaks nothing", { timeout: 60_000 }, async () => {
    for (const json of DEEP) {
      for (const call of attack.withBody) {
        const answer = await attack.put(call, bodyAnd(call, "deep", json));
        expect(answer.status, `${call.method} ${call.path}: ${answer.text.slice(0, 200)}`).toBeGreaterThanOrEqual(400);
        expect(answer.status, `${call.method} ${call.path}: ${answer.text.slice(0, 200)}`).toBeLessThan(500);
      }
      for (const body of [json, `{"seed":3,"deep":${json}}`, `{"override_settings":${json}}`]) {
        const answer = await run(body);
        expect(answer.status, answer.text.slice(0, 200)).toBeLessThan(500);
      }
    }
    expectOk(await run('{"seed":4}'));
  });

  test("with a number that is not finite or too small gets 400 with its field; no number causes a 5xx", async () => {
    for (const call of attack.withBody) {
      for (const { path, schema } of fieldsOf(call.body ?? {})) {
        if (schema.type !== "integer" && schema.type !== "number") continue;
        for (const number of NUMBERS) {
          const answer = await attack.put(call, bodyWith(call, path, number));
          const at = `${call.method} ${call.path}, ${path.join(".")} = ${number.slice(0, 20)}: ${answer.text}`;
          expect(answer.status, at).toBeLessThan(500);
          const value = Number(number);
          const { minimum = -Infinity } = schema;
          if (!Number.isFinite(value) || value < minimum) {
            expect(answer.status, at).toBe(400);
            expect(errorOf(answer), at).toMatchObject({ param: path.join(".") });
          }
        }
      }
    }
  });

  test("with a width out of range starts no run, and no odd seed causes a 5xx", async () => {
    for (const number of ["1e400", "1e308", "1".repeat(400), "-1e400", "9e99"]) {
      origin.seen.length = 0;
      const answer = await run(`{"seed":5,"width":${number}}`);
      expect(errorOf(answer), number).toMatchObject({ reason: "invalid_field", param: "width" });
      expect(origin.seen).toEqual([]);
    }
    for (const seed of ["1e400", "9007199254740993", "-0", "1e-400", "5e0"]) {
      expect((await run(`{"seed":${seed}}`)).status, seed).toBeLessThan(500);
    }
  });

  test("that is invalid, or not in UTF-8, gets 400", async () => {
    const bodies = [
      "NaN",
      "{'a':1}",
      "{a:1}",
      '{"a":1,}',
      "\ufeff{",
      '{"a":\u0000}',
      "[1",
      '"\ud800',
      "undefined",
      "{}{}",
    ];
    for (const body of [...bodies, Buffer.from('{"name":"x"}', "utf16le"), Buffer.from([0xff, 0xfe, 0x7b, 0x7d])]) {
      for (const call of attack.withBody) {
        const headers = { "content-type": "application/json" };
        const sent = { method: call.method, body, headers, key: door.portico.adminToken };
        if (call.of === "operator") expect((await door.ask(filled(call.path, "x"), sent)).status).toBe(400);
      }
      expect(
        (await door.ask("/v1/fingerprint", { body, headers: { "content-type": "application/json" } })).status,
      ).toBe(400);
    }
  });
});

describe("a duplicate name", () => {
  test("in a query causes no 5xx", async () => {
    for (const call of attack.calls) {
      for (const name of call.query) {
        for (const values of [["1", "2"], ["", "1"], ["1", "' OR 1"], Array.from({ length: 500 }, () => "1")]) {
          const query = values.map((value) => `${name}=${encodeURIComponent(value)}`).join("&");
          const more = `${query}&${name}[]=1&${name}[a]=1&${name}.x=1&${name.toUpperCase()}=1`;
          const { status } = await attack.ask(call, `${filled(call.path, "nothing")}?${more}`);
          expect(status, `${call.method} ${call.path}?${name}`).toBeLessThan(500);
        }
      }
    }
  });

  test("in JSON counts with its last value", async () => {
    origin.seen.length = 0;
    expect(errorOf(await run('{"seed":1,"width":64,"width":9999}'))).toMatchObject({ param: "width" });
    expect(errorOf(await run('{"seed":1,"\\u0077idth":9999}'))).toMatchObject({ param: "width" });
    expect(errorOf(await run('{"seed":1,"override_settings":{},"override_settings":{"a":1}}'))).toMatchObject({
      reason: "invalid_field",
    });
    expect(origin.seen).toEqual([]);
  });
});

test("an id that only looks like an existing one finds nothing", async () => {
  const painted = expectOk(await door.paint({}, { headers: { "x-request-id": "Order-1" } }));
  const id = new URL(linksOf(painted)[0] ?? "").pathname.split("/").at(-1) ?? "";
  const wide = String.fromCodePoint((id.codePointAt(0) ?? 0) + 0xfee0) + id.slice(1);
  const cased = id.toLowerCase() === id ? id.toUpperCase() : id.toLowerCase();
  const alike = [
    cased,
    encodeURIComponent(wide),
    ...["%00", "%20", ".png", ";x", "%cc%81", "%EF%BB%BF"].map((end) => id + end),
  ];
  const tried = [...alike, `%20${id}`, `%EF%BB%BF${id}`].flatMap((one) =>
    ["GET", "DELETE"].map(async (method) => {
      const { status } = await door.ask(`/v1/results/${one}`, { method });
      expect([400, 404], `${method} ${one}`).toContain(status);
    }),
  );
  await Promise.all(tried);
  for (const one of [
    "order-1",
    "ORDER-1",
    "Order-1%20",
    "Order%E2%80%901",
    "%EF%BC%AFrder-1",
    "Order-%31x",
    "Order-1%00",
  ]) {
    expect((await door.ask(`/v1/requests/${one}`)).status, one).toBeGreaterThanOrEqual(400);
  }
  expectOk(await door.ask(`/v1/results/${id}`));
  expectOk(await door.ask("/v1/requests/Order-%31"));
});
