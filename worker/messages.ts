/** The text of each refusal in English and Chinese. `{name}` is replaced by a fact of the refusal. */
import { detailText, filled, type Text } from "./details.ts";
import type { Reason, Refusal } from "./refusal.ts";

const MESSAGES: Record<Reason, Text> = {
  malformed_json: { en: "The body is not valid JSON: {detail}.", zh: "请求体不是有效的 JSON：{detail}。" },
  invalid_field: { en: "{param}: {detail}", zh: "参数 {param} 无效：{detail}" },
  bad_path: {
    en: "The path must not contain empty or dot segments, backslashes, or the escapes %2f, %5c, %2e.",
    zh: "路径不得包含空段、点段、反斜杠，或转义符 %2f、%5c、%2e。",
  },
  missing: {
    en: "An API key is required: send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.",
    zh: "需要 API 密钥：请用 “Authorization: Bearer <密钥>” 或 “X-API-Key: <密钥>” 发送。",
  },
  malformed: { en: "The API key was not accepted: {detail}.", zh: "API 密钥未被接受：{detail}。" },
  unknown: {
    en: "This API key is not known here; check that it belongs to this server, or ask the operator for a new one.",
    zh: "此服务器上没有该 API 密钥；请确认它属于本服务器，或向运维人员申请新密钥。",
  },
  expired: {
    en: "This API key has expired; ask the operator for a new one.",
    zh: "该 API 密钥已过期；请向运维人员申请新密钥。",
  },
  revoked: {
    en: "This API key was revoked or disabled; ask the operator for a new one.",
    zh: "该 API 密钥已被吊销或停用；请向运维人员申请新密钥。",
  },
  scope: {
    en: "This API key lacks the scope '{scope}'; use a key that has it.",
    zh: "该 API 密钥没有权限范围 “{scope}”；请使用具有该权限的密钥。",
  },
  service: {
    en: "This API key may not use the service '{service}'; use a key that may.",
    zh: "该 API 密钥不能使用服务 “{service}”；请使用有权使用的密钥。",
  },
  tenant_disabled: {
    en: "This account is disabled; ask the operator to enable it.",
    zh: "该账户已停用；请联系运维人员启用。",
  },
  bad_signature: {
    en: "The URL's signature is incomplete, repeated or invalid; use the URL exactly as the API returned it.",
    zh: "网址的签名不完整、重复或无效；请原样使用 API 返回的网址。",
  },
  role: { en: "You may not do this: {detail}.", zh: "您无权执行此操作：{detail}。" },
  not_found: {
    en: "Nothing was found here; check the path and the ids in it.",
    zh: "未找到；请检查路径及其中的 ID。",
  },
  method_not_allowed: {
    en: "This path does not take {method}; it takes {allow}.",
    zh: "此路径不接受 {method}，只接受 {allow}。",
  },
  idempotency_in_flight: {
    en: "The first request with this Idempotency-Key, or the one that this request retries, is still being processed; try again after the time in Retry-After.",
    zh: "带有此 Idempotency-Key 的首个请求（或本次所重试的请求）仍在处理中；请在 Retry-After 所示时间后重试。",
  },
  job_finished: {
    en: "The job has already finished; it can no longer be canceled.",
    zh: "该任务已经结束，无法再取消。",
  },
  changed_meanwhile: {
    en: "Someone else changed this at the same time; try again.",
    zh: "他人同时修改了此内容；请重试。",
  },
  card_listed: {
    en: "This card is still listed in {services}: remove it from every service before you delete it.",
    zh: "此卡仍列在服务 {services} 中：请先将其从所有服务中移除，再删除。",
  },
  card_busy: {
    en: "A request still holds a slot of this card; try again when it has ended.",
    zh: "仍有请求占用此卡的槽位；请在其结束后重试。",
  },
  expired_signature: {
    en: "This URL has expired; ask the API for a new one.",
    zh: "此网址已过期；请通过 API 重新获取。",
  },
  expired_result: {
    en: "This result has expired and was deleted; repeat the request to make a new one.",
    zh: "该结果已过期并被删除；请重新发起请求以生成新的结果。",
  },
  body_too_large: {
    en: "The body is larger than the limit of {max_mb} MB.",
    zh: "请求体超过 {max_mb} MB 的上限。",
  },
  unsupported_media_type: {
    en: "This path does not take that Content-Type; it takes {expected}.",
    zh: "此路径不接受该 Content-Type，只接受 {expected}。",
  },
  range_not_satisfiable: {
    en: "The range lies outside the result, which has {bytes} bytes.",
    zh: "所请求的范围超出了结果的 {bytes} 字节。",
  },
  idempotency_mismatch: {
    en: "This Idempotency-Key was used with another body; use a new key for a new request.",
    zh: "此 Idempotency-Key 已用于不同的请求体；新的请求请使用新的键。",
  },
  requests: {
    en: "The limit is {limit} requests a minute; try again in {retry_s} s.",
    zh: "上限为每分钟 {limit} 个请求；请在 {retry_s} 秒后重试。",
  },
  concurrency: {
    en: "{waiting} of your requests are already waiting; the limit for this service is {max}. Try again when some have ended.",
    zh: "您已有 {waiting} 个请求在排队，此服务最多允许 {max} 个。请在部分请求结束后重试。",
  },
  quota: {
    en: "This month's quota of {detail} is used up; wait for the next month, or ask the operator for more.",
    zh: "本月{detail}的配额已用完；请等到下月，或请运维人员提高配额。",
  },
  address: {
    en: "Too many wrong API keys or tokens came from your address; try again in {retry_s} s.",
    zh: "来自您地址的错误密钥或令牌过多；请在 {retry_s} 秒后重试。",
  },
  internal: {
    en: "Something went wrong on our side; try again. If it happens again, tell the operator the request id.",
    zh: "服务内部出错；请重试。若再次发生，请将请求编号告知运维人员。",
  },
  origin_refused: {
    en: "The GPU server refused the connection; try again.",
    zh: "GPU 服务器拒绝连接；请重试。",
  },
  origin_reset: {
    en: "The GPU server closed the connection unexpectedly; try again.",
    zh: "GPU 服务器意外断开了连接；请重试。",
  },
  origin_invalid: {
    en: "The GPU server's answer was not valid: {detail}. Try again.",
    zh: "GPU 服务器的应答无效：{detail}。请重试。",
  },
  origin_status: {
    en: "The GPU server answered with status {status}; try again.",
    zh: "GPU 服务器返回了状态 {status}；请重试。",
  },
  origin_config: {
    en: "The connection to the GPU server is misconfigured (its access policy rejected us); ask the operator to fix it.",
    zh: "到 GPU 服务器的连接配置有误（其访问策略拒绝了我们）；请联系运维人员修复。",
  },
  tunnel_down: {
    en: "The tunnel to the GPU server is down; try again.",
    zh: "到 GPU 服务器的隧道已断开；请重试。",
  },
  queue_full: {
    en: "There is no room for this request: {detail}. Try again later (see Retry-After).",
    zh: "无法再容纳此请求：{detail}。请稍后重试（见 Retry-After）。",
  },
  queue_timeout: {
    en: "No GPU slot became free within {waited_s} s; try again later.",
    zh: "{waited_s} 秒内没有空闲的 GPU 槽位；请稍后重试。",
  },
  deadline_unmeetable: {
    en: "Your deadline cannot be met: the first byte is currently expected in {estimate_s} s. Allow more time, or try again later (see Retry-After).",
    zh: "无法满足您的期限：目前预计 {estimate_s} 秒后才有首字节。请放宽期限，或稍后重试（见 Retry-After）。",
  },
  no_healthy_card: {
    en: "No GPU card of this service takes work at the moment; try again later (see Retry-After).",
    zh: "此服务目前没有可用的 GPU 卡；请稍后重试（见 Retry-After）。",
  },
  paused: {
    en: "This service is paused by its operator; try again later (see Retry-After).",
    zh: "此服务已被运维人员暂停；请稍后重试（见 Retry-After）。",
  },
  origin_timeout: {
    en: "The GPU server sent nothing for longer than {read_s} s; try again.",
    zh: "GPU 服务器超过 {read_s} 秒没有发送数据；请重试。",
  },
  not_cached: {
    en: "Only a stored answer was requested (only-if-cached), and none is stored; leave out only-if-cached to run the request.",
    zh: "请求只要求已存储的应答（only-if-cached），但没有存储的应答；如需运行，请去掉 only-if-cached。",
  },
  client_gone: {
    en: "The caller canceled the request or closed the connection.",
    zh: "调用方取消了请求或断开了连接。",
  },
};

/** Used when the refusal names a model: the wording that clients of the OpenAI dialect know. */
const NO_MODEL: Text = {
  en: "The model '{model}' does not exist or you do not have access to it.",
  zh: "模型 “{model}” 不存在，或您无权使用。",
};

/** Used when the refusal counts jobs: waiting jobs are limited over all services. */
const JOBS_WAITING: Text = {
  en: "{jobs} jobs are already waiting; the limit is {max}. Try again when some have started.",
  zh: "已有 {jobs} 个任务在等待，上限为 {max} 个。请在部分任务开始后重试。",
};

/** Used when another run would end in the same way. */
const FINAL: Partial<Record<Reason, Text>> = {
  origin_invalid: {
    en: "The GPU server's answer cannot be used: {detail}.",
    zh: "无法使用 GPU 服务器的应答：{detail}。",
  },
  origin_status: {
    en: "The GPU server answered with status {status}.",
    zh: "GPU 服务器返回了状态 {status}。",
  },
};

/** Used when the refusal counts the jobs of a batch: one that is larger than the limit never fits. */
const BATCH_TOO_LARGE: Text = {
  en: "This batch has {batch} jobs; the limit is {max}. Send smaller batches.",
  zh: "此批次有 {batch} 个任务，上限为 {max} 个。请分成较小的批次发送。",
};

/** Used when the refusal names the limit of the call in place of the service's. */
const CALL_TOO_LARGE: Text = {
  en: "The body is larger than {call_mib} MiB, the limit of this call.",
  zh: "请求体超过此调用允许的 {call_mib} MiB。",
};

/** Used when the refusal names the limit of a batch's body. */
const BATCH_BODY_TOO_LARGE: Text = {
  en: "The body is larger than {batch_mib} MiB, the limit of a batch. Send smaller batches, and large inputs as jobs of their own (POST /v1/jobs).",
  zh: "请求体超过 {batch_mib} MiB（批次的上限）。请分成较小的批次发送，较大的输入请作为单独的任务提交（POST /v1/jobs）。",
};

/** Used when the refusal names the longest run. */
const RUN_TOO_LONG: Text = {
  en: "The GPU server did not finish within {run_s} s, the longest run of this service.",
  zh: "GPU 服务器未在 {run_s} 秒（此服务的最长运行时间）内完成。",
};

/** Used when the refusal names the documentation: nothing is served at `/`. */
const SEE_DOCS: Text = {
  en: "There is nothing at this address. The API is described at {docs}.",
  zh: "此地址没有内容。API 说明见 {docs}。",
};

/** Used when the limit is the service's limit per client address, which also counts running requests. */
const OF_ADDRESS: Text = {
  en: "{waiting} requests from your address are already waiting or running; the limit for this service is {max}. Try again when some have ended.",
  zh: "来自您地址的请求已有 {waiting} 个在排队或运行，此服务最多允许 {max} 个。请在部分请求结束后重试。",
};

/** Used when the credential is the token of an operator or a card. */
const OF_TOKEN: Partial<Record<Reason, Text>> = {
  missing: {
    en: "A token is required: send it as 'Authorization: Bearer <token>'.",
    zh: "需要令牌：请用 “Authorization: Bearer <令牌>” 发送。",
  },
  malformed: { en: "The token was not accepted: {detail}.", zh: "令牌未被接受：{detail}。" },
  unknown: {
    en: "This token is not known here; check that it belongs to this server, or ask an admin for a new one.",
    zh: "此服务器上没有该令牌；请确认它属于本服务器，或向管理员申请新令牌。",
  },
  expired: {
    en: "This access has expired; sign in again, or ask an admin for a new token.",
    zh: "访问已过期；请重新登录，或向管理员申请新令牌。",
  },
  revoked: {
    en: "This access was revoked; ask an admin for a new token.",
    zh: "访问权限已被吊销；请向管理员申请新令牌。",
  },
};

export function message(refusal: Refusal, language: keyof Text): string {
  const { facts, param } = refusal;
  const shown = { ...facts, param: param ?? "", detail: detailText(facts, language) };
  return filled(textOf(refusal)[language], shown);
}

function textOf({ reason, facts, final }: Refusal): Text {
  if (final && FINAL[reason] !== undefined) return FINAL[reason];
  if ("model" in facts) return NO_MODEL;
  if ("jobs" in facts) return JOBS_WAITING;
  if ("batch" in facts) return BATCH_TOO_LARGE;
  if ("call_mib" in facts) return CALL_TOO_LARGE;
  if ("batch_mib" in facts) return BATCH_BODY_TOO_LARGE;
  if ("run_s" in facts) return RUN_TOO_LONG;
  if ("docs" in facts) return SEE_DOCS;
  if (facts["of"] === "address") return OF_ADDRESS;
  return (facts["credential"] === "token" ? OF_TOKEN[reason] : undefined) ?? MESSAGES[reason];
}
