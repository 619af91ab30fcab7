/** Messages follow Accept-Language in all their parts: a Chinese message contains no English detail. */
import { describe, expect, test } from "vitest";
import { doorway, errorOf, type Sent } from "./doorway.ts";

const door = doorway();
const picture = { json: { prompt: "a boat", seed: 1 } };
const JOB = { json: { service: "portrait", input: { prompt: "a boat" } } };

/** Calls that are refused: the field, and the message in both languages. */
const CALLS: [target: string, sent: Sent, param: string, en: string, zh: string][] = [
  [
    "/sdapi/v1/txt2img",
    { ...picture, headers: { "x-result-ttl": "0" } },
    "X-Result-TTL",
    "must be 1 to 2592000 whole seconds",
    "必须为 1 到 2592000 的整数秒",
  ],
  [
    "/sdapi/v1/txt2img",
    { ...picture, headers: { "x-result-visibility": "all" } },
    "X-Result-Visibility",
    "must be one of private, signed, public",
    "必须是以下之一：private, signed, public",
  ],
  [
    "/v1/jobs",
    { ...JOB, headers: { "idempotency-key": "\u00e9" } },
    "Idempotency-Key",
    "must be 1 to 255 printable characters",
    "必须是 1 到 255 个可打印字符",
  ],
  [
    "/v1/jobs?cursor=x",
    {},
    "cursor",
    "is not a cursor of this list; use `next_cursor` of the page before",
    "不是此列表的游标；请使用上一页的 next_cursor",
  ],
  [
    "/v1/usage?from=yesterday",
    {},
    "from",
    "must be an ISO 8601 date, or a time with a UTC offset",
    "必须是 ISO 8601 日期，或带 UTC 偏移的时间",
  ],
  ["/v1/jobs?limit=0", {}, "limit", "must be at least 1", "不得小于 1"],
  ["/v1/jobs", { json: { input: {} } }, "service", "is required", "必须提供"],
  [
    "/v1/jobs",
    { json: { ...JOB.json, priority: "soon" } },
    "priority",
    "must be one of high, normal, low",
    "必须是以下之一：high, normal, low",
  ],
];

/** Changes by an operator that are refused. */
const CHANGES: [method: string, path: string, body: object, param: string, en: string, zh: string][] = [
  ["PUT", "/admin/v1/services/new", {}, "kind", "is required to create a service", "新建服务时必须提供"],
  [
    "POST",
    "/admin/v1/operators",
    { name: "twice", role: "read" },
    "name",
    "is or was another operator's name",
    "现为或曾为另一运维身份的名称",
  ],
  [
    "POST",
    "/admin/v1/purge",
    { what: "all" },
    "tenant",
    "is required, unless `service` or `model_version` is given",
    "未给出 service 或 model_version 时必须提供",
  ],
];

async function expectBoth(target: string, sent: Sent, param: string, en: string, zh: string): Promise<void> {
  const messages = { en: `${param}: ${en}`, zh: `参数 ${param} 无效：${zh}` };
  for (const [language, text] of Object.entries(messages)) {
    const answer = await door.ask(target, { ...sent, headers: { ...sent.headers, "accept-language": language } });
    expect(answer.header("content-language")).toBe(language);
    expect(errorOf(answer)).toMatchObject({ reason: "invalid_field", param, message: text });
  }
}

describe("a caller's refusal is in the caller's language:", () => {
  test.each(CALLS)("%s %j: %s", expectBoth);
});

describe("an operator's refusal is in the operator's language:", () => {
  test.each(CHANGES)("%s %s %j: %s", async (method, target, json, param, en, zh) => {
    const key = door.portico.adminToken;
    // Creates the first of two operators with the same name.
    await door.ask(target, { method, key, json });
    await expectBoth(target, { method, key, json }, param, en, zh);
  });
});

describe("the admin API asks for a token, not for an API key:", () => {
  const TOKENS: [what: string, headers: Record<string, string>, reason: string, en: string, zh: string][] = [
    [
      "nothing",
      {},
      "missing",
      "A token is required: send it as 'Authorization: Bearer <token>'.",
      "需要令牌：请用 “Authorization: Bearer <令牌>” 发送。",
    ],
    [
      "another header",
      { "x-api-key": "x" },
      "malformed",
      "The token was not accepted: send it as 'Authorization: Bearer <token>'.",
      "令牌未被接受：请用 “Authorization: Bearer <令牌>” 发送。",
    ],
  ];
  test.each(TOKENS)("%s", async (_, headers, reason, en, zh) => {
    for (const target of ["/admin/v1/services", "/admin/v1/nothing"]) {
      const english = await door.ask(target, { key: null, headers });
      const chinese = await door.ask(target, { key: null, headers: { ...headers, "accept-language": "zh" } });
      expect(errorOf(english)).toMatchObject({ code: "invalid_api_key", reason, message: en });
      expect(errorOf(chinese)).toMatchObject({ code: "invalid_api_key", reason, message: zh });
    }
  });
});
