/** Attacks through field values: fields that callers must not set, and strings with a meaning in other systems. */
import { describe, expect, test } from "vitest";
import { errorOf } from "../contract/doorway.ts";
import type { Answer } from "../support/raw.ts";
import { filled } from "./operations.ts";
import { bodyAnd, bodyWith, fieldsOf, scratch } from "./scratch.ts";

const attack = scratch();

/** Fields that only the program sets, and names that every JavaScript object has. */
const NOT_THEIRS =
  "id tenant tenant_id tenantId card lease number hash token_hash key tail version created_at createdAt created_by revoked_at last_used_at rotated_from actor request_id visibility admin operator constructor __proto__ prototype toString hasOwnProperty".split(
    " ",
  );
/** Strings with a meaning in a database, a log, a header, a page, a shell or a template. */
const TEXTS = [
  "'; DROP TABLE tenants; --",
  "' OR '1'='1",
  '" OR 1=1 --',
  "x'); DELETE FROM keys; --",
  "%",
  "_",
  "\\",
  "$1",
  "?1",
  "a\r\nX-Injected: yes",
  "a\0b",
  "\u0007\u001b[31m",
  "<script>alert(1)</script>",
  "${7*7}",
  "{{7*7}}",
  "{name}",
  "../../etc/passwd",
  "/admin/v1/",
  "%2e%2e%2f",
  "__proto__",
  "constructor",
  "null",
  "\ufeffx",
  "\u202eevil",
  "\ud800",
  "e\u0301",
  "ｔｅｎａｎｔ",
  "\u{1f512}".repeat(30),
  "x".repeat(100_000),
];

function expectHarmless(answer: Answer, at: string): void {
  expect(answer.status, `${at}: ${answer.text.slice(0, 300)}`).toBeLessThan(500);
  expect(answer.header("x-injected"), at).toBe(null);
}

/** Returns every value in a JSON text, at any depth. */
function valuesIn(text: string): unknown[] {
  const values: unknown[] = [];
  JSON.parse(text, (_, value: unknown) => {
    values.push(value);
    return value;
  });
  return values;
}

test("every call with a closed schema answers 400 with the name of a field that callers must not set", async () => {
  expect(attack.withBody.length).toBeGreaterThan(8);
  for (const call of attack.withBody.filter(({ body }) => body?.additionalProperties === false)) {
    for (const name of NOT_THEIRS.filter((each) => !Object.hasOwn(call.body?.properties ?? {}, each))) {
      const answer = await attack.put(call, bodyAnd(call, name, '{"admin":true}'));
      const at = `${call.method} ${call.path} with ${name}: ${answer.text}`;
      expect(answer.status, at).toBe(400);
      expect(errorOf(answer), at).toMatchObject({ reason: "invalid_field", param: name });
    }
  }
  const { before, now } = await attack.others();
  expect(now).toEqual(before);
});

describe("a string with a meaning in other systems", () => {
  test("is refused or kept unchanged in every field of every call", { timeout: 120_000 }, async () => {
    let kept = 0;
    for (const call of attack.withBody) {
      for (const { path, schema } of fieldsOf(call.body ?? {})) {
        if (schema.type !== "string" || schema.enum !== undefined) continue;
        for (const text of TEXTS) {
          const answer = await attack.put(call, bodyWith(call, path, JSON.stringify(text)));
          const at = `${call.method} ${call.path}, ${path.join(".")}: ${text.slice(0, 30)}`;
          expectHarmless(answer, at);
          // Tenant calls answer with what a service made of the text, and a purge keeps nothing.
          if (
            call.of !== "operator" ||
            call.path.endsWith("/purge") ||
            answer.status >= 300 ||
            answer.body.length === 0
          )
            continue;
          kept++;
          const shown = valuesIn(answer.text);
          expect(shown.includes(text) || shown.includes(text.trim()), at).toBe(true);
        }
      }
    }
    expect(kept).toBeGreaterThan(20);
    const { before, now } = await attack.others();
    expect(now).toEqual(before);
  });

  test("finds nothing and does no harm in any path or query of any call", { timeout: 60_000 }, async () => {
    const texts = TEXTS.filter((text) => text.isWellFormed() && text.length < 1_000);
    for (const call of attack.calls) {
      const paths = call.names.length === 0 ? [] : texts.map((text) => filled(call.path, text));
      const queries = call.query.flatMap((name) =>
        texts.map((text) => `${filled(call.path, "nothing")}?${name}=${encodeURIComponent(text)}`),
      );
      for (const target of [...paths, ...queries]) {
        const answer = await attack.ask(call, target);
        expectHarmless(answer, `${call.method} ${target}`);
        if (call.method === "DELETE") expect(answer.status, target).toBeGreaterThanOrEqual(400);
      }
    }
    const { before, now } = await attack.others();
    expect(now).toEqual(before);
  });
});
