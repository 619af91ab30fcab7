/** The text of each refusal in English and Chinese. `{name}` is replaced by a fact of the refusal. */
import type { Reason, Refusal } from "./refusal.ts";

const MESSAGES: Record<Reason, { en: string; zh: string }> = {
  malformed_json: { en: "The body is not valid JSON: {detail}", zh: "请求体不是有效的 JSON：{detail}" },
  invalid_field: { en: "{param}: {detail}", zh: "字段 {param} 无效：{detail}" },
  bad_path: {
    en: "The path may not contain empty or dot segments, backslashes, or the escapes %2f, %5c, %2e.",
    zh: "路径不得包含空段、点段、反斜杠，或转义符 %2f、%5c、%2e。",
  },
  missing: {
    en: "An API key is needed: send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.",
    zh: "需要 API 密钥：请用 “Authorization: Bearer <密钥>” 或 “X-API-Key: <密钥>” 发送。",
  },
  malformed: {
    en: "The API key is malformed, mistyped or given twice: {detail}",
    zh: "API 密钥格式不对、有误或重复给出：{detail}",
  },
  unknown: { en: "This API key is not known here.", zh: "此处没有该 API 密钥。" },
  expired: { en: "This API key has expired.", zh: "该 API 密钥已过期。" },
  revoked: { en: "This API key was revoked.", zh: "该 API 密钥已被吊销。" },
  scope: { en: "This API key lacks the scope '{scope}'.", zh: "该 API 密钥没有权限范围 “{scope}”。" },
  service: { en: "This API key may not use the service '{service}'.", zh: "该 API 密钥不能使用服务 “{service}”。" },
  tenant_disabled: { en: "This account is disabled.", zh: "该账户已停用。" },
  bad_signature: {
    en: "The URL's signature is missing a part, doubled or wrong.",
    zh: "网址的签名不完整、重复或不正确。",
  },
  role: { en: "You may not do this: {detail}.", zh: "您无权执行此操作：{detail}。" },
  not_found: { en: "There is nothing here by that name.", zh: "这里没有该名称的内容。" },
  method_not_allowed: {
    en: "This path does not take {method}; it takes {allow}.",
    zh: "此路径不接受 {method}，只接受 {allow}。",
  },
  idempotency_in_flight: {
    en: "The first request with this Idempotency-Key is still being worked on.",
    zh: "带有此 Idempotency-Key 的第一个请求仍在处理中。",
  },
  job_finished: { en: "The job has finished already.", zh: "该任务已经结束。" },
  card_listed: {
    en: "This card is still listed in {services}: take it out of every service before you delete it.",
    zh: "此卡仍列在服务 {services} 中：请先将其从所有服务中移除，再删除。",
  },
  card_busy: {
    en: "A request still holds a slot of this card. Try again when it has ended.",
    zh: "仍有请求占用此卡的槽位。请在其结束后重试。",
  },
  expired_signature: {
    en: "This link has expired; ask the API for a fresh one.",
    zh: "此链接已过期，请向 API 索取新的链接。",
  },
  expired_result: { en: "This result was kept for its time and is gone.", zh: "该结果已过保存期，不复存在。" },
  body_too_large: {
    en: "The body is larger than the {max_mb} MB that this service takes.",
    zh: "请求体超过此服务允许的 {max_mb} MB。",
  },
  unsupported_media_type: { en: "This path takes {expected}.", zh: "此路径只接受 {expected}。" },
  range_not_satisfiable: {
    en: "The range lies outside the result's {bytes} bytes.",
    zh: "所请求的范围超出结果的 {bytes} 字节。",
  },
  idempotency_mismatch: {
    en: "This Idempotency-Key was used with another body.",
    zh: "此 Idempotency-Key 已用于不同的请求体。",
  },
  requests: {
    en: "Your limit is {limit} requests a minute; the next one is possible in {retry_s} s.",
    zh: "您的上限为每分钟 {limit} 个请求；{retry_s} 秒后可再试。",
  },
  concurrency: {
    en: "{waiting} of your requests{detail} are waiting in line already, the most for this service is {max}.",
    zh: "您{detail}已有 {waiting} 个请求在排队，此服务最多允许 {max} 个。",
  },
  quota: { en: "This month's quota of {detail} is used up.", zh: "本月{detail}的配额已用完。" },
  address: {
    en: "Too many wrong API keys came from your address; try again in {retry_s} s.",
    zh: "来自您地址的错误 API 密钥过多；请 {retry_s} 秒后再试。",
  },
  internal: {
    en: "Something went wrong on our side. Quote the request id when you ask about it.",
    zh: "服务内部出错。询问时请提供请求编号。",
  },
  origin_refused: { en: "The GPU server refused the connection.", zh: "GPU 服务器拒绝连接。" },
  origin_reset: { en: "The GPU server broke the connection off.", zh: "GPU 服务器中断了连接。" },
  origin_invalid: { en: "The GPU server's answer was not valid: {detail}", zh: "GPU 服务器的应答无效：{detail}" },
  origin_status: { en: "The GPU server answered with status {status}.", zh: "GPU 服务器返回状态 {status}。" },
  origin_config: {
    en: "The way to the GPU server is set up wrongly (its access policy refused us); the operator has to mend it.",
    zh: "到 GPU 服务器的通路配置有误（其访问策略拒绝了我们），需要运维人员修复。",
  },
  tunnel_down: { en: "The tunnel to the GPU server is down.", zh: "到 GPU 服务器的隧道已断开。" },
  queue_full: { en: "There is no room for this request: {detail}.", zh: "没有容纳此请求的余地：{detail}。" },
  queue_timeout: { en: "No GPU slot came free within {waited_s} s.", zh: "{waited_s} 秒内没有空闲的 GPU 槽位。" },
  deadline_unmeetable: {
    en: "Your deadline cannot be met: by the present estimate the first byte comes in {estimate_s} s.",
    zh: "无法满足您的期限：按目前估计，首字节需要 {estimate_s} 秒。",
  },
  no_healthy_card: { en: "No GPU card of this service takes work at the moment.", zh: "此服务目前没有可用的 GPU 卡。" },
  paused: { en: "This service is paused by its operator.", zh: "此服务已被运维人员暂停。" },
  origin_timeout: {
    en: "The GPU server was silent for longer than {read_s} s.",
    zh: "GPU 服务器沉默超过 {read_s} 秒。",
  },
  not_cached: {
    en: "Only a stored answer was asked for, and there is none.",
    zh: "只请求已存储的应答，但没有存储的应答。",
  },
  client_gone: { en: "The caller hung up.", zh: "调用方已断开连接。" },
};

/** Used when the refusal names a model: the wording that clients of the OpenAI dialect know. */
const NO_MODEL = {
  en: "The model '{model}' does not exist or you do not have access to it.",
  zh: "模型 “{model}” 不存在，或您无权使用。",
};

/** Used when the refusal counts jobs: waiting jobs are limited over all services. */
const JOBS_WAITING = {
  en: "{jobs} jobs are waiting already; your limit is {max}. Try again when some have started.",
  zh: "已有 {jobs} 个任务在等待，您的上限为 {max} 个。请在部分任务开始后重试。",
};

/** Used when the refusal counts the jobs of a batch: one that is larger than the limit never fits. */
const BATCH_TOO_LARGE = {
  en: "This batch has {batch} jobs; your limit is {max}. Send smaller batches.",
  zh: "此批次有 {batch} 个任务，您的上限为 {max} 个。请分成较小的批次发送。",
};

/** Used when the refusal names the limit of the call in place of the service's. */
const CALL_TOO_LARGE = {
  en: "The body is larger than the {call_mib} MiB that this call takes.",
  zh: "请求体超过此调用允许的 {call_mib} MiB。",
};

/** Used when the refusal names the limit of a submission: the service's own route takes larger inputs. */
const SUBMISSION_TOO_LARGE = {
  en: "The body is larger than the {submission_mib} MiB that this call takes. Send a larger input to the service's own route, with the header 'Prefer: respond-async'.",
  zh: "请求体超过此调用允许的 {submission_mib} MiB。更大的输入请发送到服务自身的路由，并带上请求头 “Prefer: respond-async”。",
};

/** Used when the refusal names the longest run. */
const RUN_TOO_LONG = {
  en: "The GPU server did not finish within {run_s} s, the longest run of this service.",
  zh: "GPU 服务器未在 {run_s} 秒（此服务的最长运行时间）内完成。",
};

/** Used when the refusal names the documentation: nothing is served at `/`. */
const SEE_DOCS = {
  en: "There is nothing at this address. The API is described at {docs}.",
  zh: "此地址没有内容。API 说明见 {docs}。",
};

/** Chinese translations of our own details. Details that come from parsers are left as they are. */
const DETAILS: [en: RegExp, zh: string][] = [
  [/^may not be given by URL$/, "不得以网址给出"],
  [/^may not be given$/, "不得给出"],
  [/^must be a text$/, "必须是文本"],
  [/^must be a number$/, "必须是数字"],
  [/^must be a number or a text$/, "必须是数字或文本"],
  [/^must be at most (\S+)$/, "最大为 $1"],
  [/^must have at most (\d+) characters$/, "最多 $1 个字符"],
  [/^must be 1 to (\d+) seconds$/, "必须为 1 到 $1 秒"],
  [/^more than (\d+) parts$/, "超过 $1 个部分"],
  [/^is not a well-formed form$/, "不是格式正确的表单"],
  [/^is not a number$/, "不是数字"],
  [/^is needed$/, "必须给出"],
  [/^is needed: no model that you may use does this by default$/, "必须给出：您可用的模型默认都不支持此操作"],
  [/^'(.+)' does not do this$/, "“$1” 不支持此操作"],
  [/^must be WIDTHxHEIGHT, or auto$/, "必须为 宽x高 或 auto"],
  [/^must be an image$/, "必须是图像"],
  [/^may not be a file$/, "不得是文件"],
  [/^must be a file$/, "必须是文件"],
  [/^more than (\d+) files$/, "超过 $1 个文件"],
  [/^more than 8 MiB of files$/, "文件合计超过 8 MiB"],
  [/^names a file that is not there, or not any more$/, "所指的文件不存在或已过期"],
  [/^must be a JSON object of at most (\S+) characters$/, "必须是最多 $1 个字符的 JSON 对象"],
  [/^is an API key, which no input needs$/, "是 API 密钥，输入中不需要它"],
  [/^is needed: it says which model is meant$/, "必须给出：用于指明模型"],
  [/^too many requests beyond the limits are waiting$/, "超出上限而等待的请求过多"],
  [/^must be a whole PNG, JPEG or WebP$/, "必须是完整的 PNG、JPEG 或 WebP"],
  [/^this model gives (.+)$/, "此模型只提供 $1"],
  [/^is not a URL$/, "不是网址"],
  [/^must be high, normal or low$/, "必须为 high、normal 或 low"],
  [/^must be https: to (.+)$/, "必须是指向 $1 的 https:"],
  [/^is no file of yours, or is over its time$/, "不是您的文件，或已过期"],
  [/^files must be at most (\d+), of (\d+) MiB in all$/, "文件最多 $1 个，共 $2 MiB"],
  [
    /^must be JSON with `expiration_duration_seconds` of 1 or more$/,
    "必须是 JSON，其 expiration_duration_seconds 至少为 1",
  ],
  [/^is needed: this service lists no plain path$/, "必须给出：此服务没有列出固定路径"],
  [/^is not a path that this service runs by POST$/, "不是此服务以 POST 运行的路径"],
  [/^may not carry credentials$/, "不得带有凭据"],
  [/^must be https:$/, "必须是 https:"],
  [/^may not have port 0$/, "端口不得为 0"],
  [/^must be a whole number$/, "必须是整数"],
  [/^must be a public host$/, "必须是公网主机"],
  [/^did not arrive: (\d+) s without a byte$/, "没有到达：$1 秒内没有数据"],
  [/^did not arrive: it took longer than (\d+) s$/, "没有到达：用时超过 $1 秒"],
  [/^it is deeper than (\d+) levels$/, "嵌套超过 $1 层"],
  [/^the waiting room is full \((\d+) of (\d+)\)$/, "等候队列已满（$1/$2）"],
  [/^ from this address, running ones included,$/, "从此地址（包括运行中的）"],
  [/^(\S+) results$/, " $1 个结果"],
  [/^(\S+) cost units$/, " $1 个计费单位"],
  [/^more than (\d+) services have limits of their own$/, "超过 $1 个服务有各自的限额"],
  [/^the line does not answer$/, "队列没有响应"],
  [/^too many large bodies are under way$/, "正在处理的大请求体过多"],
  [/^the same request failed for another caller$/, "同一请求在另一调用方处失败"],
  [/^it is empty$/, "内容为空"],
  [/^it is not UTF-8$/, "不是 UTF-8"],
  [/^not a key of this API$/, "不是此 API 的密钥"],
  [/^two different credentials$/, "给出了两个不同的凭据"],
  [/^too long$/, "过长"],
  [/^the checksum is wrong$/, "校验和错误"],
  [/^not a valid assertion of Access$/, "不是有效的 Access 断言"],
  [/^the keys of Access cannot be had now$/, "目前无法取得 Access 的公钥"],
  [/^it needs the role '(\w+)'$/, "需要角色 “$1”"],
  [/^no operator has the address that Access names$/, "没有运维人员使用 Access 给出的地址"],
  [
    /^through Access a change needs this host's own Origin and (\S+ \S+)$/,
    "经由 Access 的更改须带有本站自身的 Origin 和 $1",
  ],
];

function inChinese(detail: string): string {
  const [en, zh] = DETAILS.find(([pattern]) => pattern.test(detail)) ?? [];
  return en === undefined || zh === undefined ? detail : detail.replace(en, zh);
}

export function message(refusal: Refusal, language: "en" | "zh"): string {
  const facts: Record<string, string | number> = { ...refusal.facts, param: refusal.param ?? "" };
  if (language === "zh" && typeof facts["detail"] === "string") facts["detail"] = inChinese(facts["detail"]);
  return wordsOf(refusal)[language].replace(/\{(\w+)\}/g, (_, name: string) => String(facts[name] ?? ""));
}

function wordsOf({ reason, facts }: Refusal): { en: string; zh: string } {
  if ("model" in facts) return NO_MODEL;
  if ("jobs" in facts) return JOBS_WAITING;
  if ("batch" in facts) return BATCH_TOO_LARGE;
  if ("call_mib" in facts) return CALL_TOO_LARGE;
  if ("run_s" in facts) return RUN_TOO_LONG;
  if ("submission_mib" in facts) return SUBMISSION_TOO_LARGE;
  return "docs" in facts ? SEE_DOCS : MESSAGES[reason];
}
