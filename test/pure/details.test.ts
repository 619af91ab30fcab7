import { describe, expect, test } from "vitest";
import { z } from "zod";
import { detail, type DetailKey, DETAILS, detailText, wrong } from "../../worker/details.ts";
import { detailOf } from "../../worker/api/issue.ts";
import { message } from "../../worker/messages.ts";
import { type Reason, REASONS, refuse } from "../../worker/refusal.ts";

const HAN = /\p{Script=Han}/u;
const KEYS = Object.keys(DETAILS) as DetailKey[];
const namesIn = (text: string): string[] => Array.from(text.matchAll(/\{(\w+)\}/g), ([, name = ""]) => name);

/** The facts of a text, each with a value that no text contains by itself. */
const factsOf = (text: string) => Object.fromEntries(namesIn(text).map((name, i) => [name, `<${i}>`]));

describe("every detail has a text in both languages:", () => {
  test.each(KEYS.filter((key) => key !== "text"))("%s", (key) => {
    const { en, zh } = DETAILS[key];
    expect(new Set(namesIn(zh))).toEqual(new Set(namesIn(en)));
    const facts = { ...factsOf(en), detail: key };
    const [english, chinese] = [detailText(facts, "en"), detailText(facts, "zh")];
    expect(english).toMatch(/^[\x20-\x7e]+$/);
    expect(chinese).toMatch(HAN);
    for (const text of [english, chinese]) {
      expect(text).not.toMatch(/[{}]/);
      for (const value of Object.values(factsOf(en))) expect(text).toContain(value);
    }
  });
});

test("the text of a parser or an origin is the same in both languages, whatever it contains", () => {
  const facts = detail("text", { text: "Unexpected token {max}" });
  expect(detailText(facts, "en")).toBe("Unexpected token {max}");
  expect(message(refuse("malformed_json", { facts }), "zh")).toBe("请求体不是有效的 JSON：Unexpected token {max}。");
});

test("a text that an older version stored with a job is shown as it is", () => {
  const facts = { detail: "its JSON is damaged, or not" };
  expect(detailText(facts, "zh")).toBe("its JSON is damaged, or not");
});

describe("every reason has a message in both languages:", () => {
  const facts = { ...detail("required"), scope: "jobs", service: "s", method: "GET", allow: "POST", expected: "x/y" };
  const numbers = { max_mb: 1, bytes: 1, limit: 1, retry_s: 1, waiting: 1, max: 1, status: 500, waited_s: 1 };
  const refusalOf = (reason: Reason, more: Record<string, string | number> = {}) =>
    refuse(reason, { param: "field", facts: { ...facts, ...numbers, estimate_s: 1, read_s: 1, ...more } });
  test.each(Object.keys(REASONS) as Reason[])("%s", (reason) => {
    for (const more of [{}, { credential: "token" }, { of: "address" }, { model: "m" }]) {
      expect(message(refusalOf(reason, more), "en")).toMatch(/^[\x20-\x7e]+[.d]$/);
      expect(message(refusalOf(reason, more), "zh")).toMatch(HAN);
    }
  });
});

const SAID: [what: string, schema: z.ZodType, value: unknown, en: string, zh: string][] = [
  ["another type", z.string(), 1, "must be a string", "必须是字符串"],
  ["no whole number", z.int(), 1.5, "must be an integer", "必须是整数"],
  ["no number", z.coerce.number(), "x", "must be a number", "必须是数字"],
  ["no list", z.array(z.int()), {}, "must be an array", "必须是数组"],
  ["no object", z.strictObject({}), [], "must be an object", "必须是对象"],
  ["no boolean", z.boolean(), "yes", "must be true or false", "必须是 true 或 false"],
  ["too small", z.int().min(1), 0, "must be at least 1", "不得小于 1"],
  ["too large", z.int().max(9), 10, "must be at most 9", "不得大于 9"],
  ["zero where a positive number is meant", z.number().positive(), 0, "must be greater than 0", "必须大于 0"],
  ["an empty string", z.string().min(1), "", "must not be empty", "不得为空"],
  ["a long string", z.string().max(2), "abc", "must have at most 2 characters", "最多 2 个字符"],
  ["a short string", z.string().min(2), "a", "must have at least 2 characters", "至少需要 2 个字符"],
  ["a long list", z.array(z.int()).max(1), [1, 2], "must have at most 1 elements", "最多 1 个元素"],
  ["another word", z.enum(["a", "b"]), "c", "must be one of a, b", "必须是以下之一：a, b"],
  ["an unknown field", z.strictObject({}), { a: 1 }, "is not a field of this call", "不是此调用的字段"],
  [
    "a wrong member's name",
    z.record(z.string().max(1), z.int()),
    { ab: 1 },
    "must have at most 1 characters",
    "最多 1 个字符",
  ],
  ["no URL", z.url(), "x", "must be a URL", "必须是有效的网址"],
  [
    "a schema's own detail",
    z.string().regex(/a/, wrong("size")),
    "b",
    "must be WIDTHxHEIGHT or auto",
    "必须为 “宽x高” 或 auto",
  ],
  [
    "a schema's own detail with facts",
    z.string().refine(() => false, { params: detail("seconds", { max: 5 }) }),
    "b",
    "must be 1 to 5 seconds",
    "必须为 1 到 5 秒",
  ],
  ["no alternative of a union", z.union([z.string(), z.int()]), null, "is not valid", "取值无效"],
];

describe("schema errors are described in our own texts:", () => {
  test.each(SAID)("%s", (_, schema, value, en, zh) => {
    const issue = schema.safeParse(value).error?.issues[0];
    if (issue === undefined) throw new Error("the value is valid");
    const facts = detailOf(issue);
    expect([detailText(facts, "en"), detailText(facts, "zh")]).toEqual([en, zh]);
  });
});
