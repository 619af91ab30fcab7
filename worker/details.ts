/**
 * The details of refusals in English and Chinese. A refusal carries a detail's key and its facts, never its text, so
 * that both languages are complete. Pure.
 */

export interface Text {
  en: string;
  zh: string;
}

/** `{name}` is replaced by a fact. A text that follows a field's name is a predicate; any other is a clause. */
export const DETAILS = {
  /** Text of a parser or an origin, shown as it is in both languages. */
  text: { en: "{text}", zh: "{text}" },

  // Values
  required: { en: "is required", zh: "必须提供" },
  unknown_field: { en: "is not a field of this call", zh: "不是此调用的字段" },
  not_valid: { en: "is not valid", zh: "取值无效" },
  string: { en: "must be a string", zh: "必须是字符串" },
  number: { en: "must be a number", zh: "必须是数字" },
  integer: { en: "must be an integer", zh: "必须是整数" },
  boolean: { en: "must be true or false", zh: "必须是 true 或 false" },
  array: { en: "must be an array", zh: "必须是数组" },
  object: { en: "must be an object", zh: "必须是对象" },
  number_or_string: { en: "must be a number or a string", zh: "必须是数字或字符串" },
  at_least: { en: "must be at least {min}", zh: "不得小于 {min}" },
  at_most: { en: "must be at most {max}", zh: "不得大于 {max}" },
  greater_than: { en: "must be greater than {min}", zh: "必须大于 {min}" },
  less_than: { en: "must be less than {max}", zh: "必须小于 {max}" },
  multiple_of: { en: "must be a multiple of {step}", zh: "必须是 {step} 的倍数" },
  not_empty: { en: "must not be empty", zh: "不得为空" },
  characters_at_least: { en: "must have at least {min} characters", zh: "至少需要 {min} 个字符" },
  characters_at_most: { en: "must have at most {max} characters", zh: "最多 {max} 个字符" },
  elements_at_least: { en: "must have at least {min} elements", zh: "至少需要 {min} 个元素" },
  elements_at_most: { en: "must have at most {max} elements", zh: "最多 {max} 个元素" },
  one_of: { en: "must be one of {values}", zh: "必须是以下之一：{values}" },
  seconds: { en: "must be 1 to {max} seconds", zh: "必须为 1 到 {max} 秒" },
  whole_seconds: { en: "must be 1 to {max} whole seconds", zh: "必须为 1 到 {max} 的整数秒" },
  time: {
    en: "must be an ISO 8601 time with a UTC offset, such as 2026-01-31T12:00:00Z",
    zh: "必须是带 UTC 偏移的 ISO 8601 时间，例如 2026-01-31T12:00:00Z",
  },
  url: { en: "must be a URL", zh: "必须是有效的网址" },
  https: { en: "must use https:", zh: "必须使用 https:" },
  public_host: { en: "must name a public host", zh: "必须指向公网主机" },
  no_credentials: { en: "must not contain a user name or a password", zh: "不得包含用户名或密码" },
  no_port_0: { en: "must not name port 0", zh: "端口不得为 0" },
  not_run_path: { en: "is not a path that this service runs by POST", zh: "不是此服务以 POST 运行的路径" },
  no_query: { en: "must not contain a query or a fragment", zh: "不得包含查询参数或片段" },
  plain_segments: {
    en: "must not contain empty segments or escaped slashes or dots",
    zh: "不得包含空路径段或转义的斜杠、点",
  },
  id: {
    en: "must be 1 to 63 of a-z 0-9 . _ - and start with a letter or digit",
    zh: "必须由 1 到 63 个 a-z 0-9 . _ - 字符组成，且以字母或数字开头",
  },
  json_pointer: { en: "must be a JSON pointer (RFC 6901)", zh: "必须是 JSON 指针（RFC 6901）" },
  leading_slash: { en: "must start with a slash", zh: "必须以斜杠开头" },

  // A service's rules
  forbidden: { en: "is not allowed by this service", zh: "此服务不允许该字段" },
  forbidden_url: {
    en: "must not be a URL: this service allows only data: URLs here",
    zh: "不得为网址：此服务在此处只允许 data: 网址",
  },

  // Bodies
  not_utf8: { en: "it is not UTF-8", zh: "不是 UTF-8 编码" },
  empty_body: { en: "it is empty", zh: "内容为空" },
  too_deep: { en: "it is nested deeper than {max} levels", zh: "嵌套超过 {max} 层" },
  form: { en: "is not a valid form", zh: "不是有效的表单" },
  parts_at_most: { en: "exceeds the limit of {max} parts in a form", zh: "超出表单最多 {max} 个部分的限制" },
  envelope_at_most: {
    en: "must be at most {max_kib} KiB besides `{member}`",
    zh: "除 `{member}` 外不得超过 {max_kib} KiB",
  },
  no_body: { en: "must be empty in a {method} request", zh: "{method} 请求的请求体必须为空" },
  incomplete: { en: "did not arrive completely", zh: "未完整到达" },
  late: { en: "did not arrive in time", zh: "未及时到达" },
  late_after: { en: "did not arrive within {s} s", zh: "未在 {s} 秒内到达" },
  stalled: { en: "stopped arriving: nothing came for {s} s", zh: "传输中断：{s} 秒内没有收到数据" },
  head_at_most: { en: "must be at most {max_kib} KiB together with the path", zh: "连同路径不得超过 {max_kib} KiB" },

  // Headers
  idempotency_key: { en: "must be 1 to 255 printable characters", zh: "必须是 1 到 255 个可打印字符" },
  idempotency_body: {
    en: "can be used only with a body of at most {max_mib} MiB",
    zh: "只能用于不超过 {max_mib} MiB 的请求体",
  },

  // Queries
  cursor: {
    en: "is not a cursor of this list; use `next_cursor` of the page before",
    zh: "不是此列表的游标；请使用上一页的 next_cursor",
  },
  moment: {
    en: "must be an ISO 8601 date, or a time with a UTC offset",
    zh: "必须是 ISO 8601 日期，或带 UTC 偏移的时间",
  },
  year: { en: "must be in the years 0000 to 9999", zh: "年份必须在 0000 到 9999 之间" },
  usage_groups: {
    en: "must be a comma-separated list of day, service, key",
    zh: "必须是由 day、service、key 组成、以逗号分隔的列表",
  },
  before_from: { en: "must not be before `from`", zh: "不得早于 from" },
  days_at_most: { en: "must be at most {max} days before the end", zh: "距结束日期不得超过 {max} 天" },
  no_variants: { en: "is not available on this server", zh: "此服务器不提供该功能" },
  repeated: { en: "must be given only once", zh: "只能给出一次" },
  side: { en: "must be a multiple of {step}, at most {max}", zh: "必须是 {step} 的倍数，且不得大于 {max}" },
  result_not_image: { en: "is only for images; this result is none", zh: "只适用于图像，而该结果不是图像" },

  // Models and their inputs
  no_model: {
    en: "none of the models that this key may use supports this call",
    zh: "此密钥可用的模型均不支持此调用",
  },
  not_supported: { en: "'{service}' does not support this call", zh: "“{service}” 不支持此调用" },
  version_required: { en: "is required: it selects the model", zh: "必须提供：用于指定模型" },
  formats: { en: "this model only returns {formats}", zh: "此模型只提供 {formats}" },
  size: { en: "must be WIDTHxHEIGHT or auto", zh: "必须为 “宽x高” 或 auto" },
  image: { en: "must be an image", zh: "必须是图像" },
  image_file: { en: "must be a complete PNG, JPEG or WebP", zh: "必须是完整的 PNG、JPEG 或 WebP" },
  file: { en: "must be a file", zh: "必须是文件" },
  no_file: { en: "must not be a file", zh: "不得是文件" },
  unknown_file: { en: "names a file that does not exist or has expired", zh: "所指的文件不存在或已过期" },
  files_at_most: { en: "exceeds the limit of {max} files in an input", zh: "超出输入最多 {max} 个文件的限制" },
  files_mib: {
    en: "exceeds the limit of {max_mib} MiB for all files of an input",
    zh: "超出输入中文件合计 {max_mib} MiB 的限制",
  },
  metadata: { en: "must be a JSON object of at most {max} characters", zh: "必须是最多 {max} 个字符的 JSON 对象" },
  contains_key: { en: "contains an API key; inputs must not contain keys", zh: "包含 API 密钥；输入中不得包含密钥" },
  fal_target: { en: "must be an https: URL of {hosts}", zh: "必须是 {hosts} 的 https: 网址" },
  fal_lifecycle: {
    en: "must be a JSON object; its `expiration_duration_seconds` must be 1 to {max}",
    zh: "必须是 JSON 对象；其中 expiration_duration_seconds 必须为 1 到 {max}",
  },

  // Jobs
  path_below: {
    en: "must be a path below the service's route, without a leading slash, query or fragment",
    zh: "必须是服务路由之下的路径，不含开头的斜杠、查询参数和片段",
  },
  path_no_query: {
    en: "must be a path below the service's route, without a query or fragment",
    zh: "必须是服务路由之下的路径，不含查询参数和片段",
  },
  path_required: {
    en: "is required: this service lists no run path without '*'",
    zh: "必须提供：此服务没有不含 “*” 的 run 路径",
  },
  inexact: {
    en: "contains an integer beyond 2^53, which JSON parsing would round; send the request to the service's own route with Prefer: respond-async",
    zh: "包含超出 2^53 的整数，解析 JSON 时会丢失精度；请改为带上 Prefer: respond-async 请求服务自身的路由",
  },
  webhook_secret: {
    en: "must be `whsec_` and 24 to 64 bytes in base64",
    zh: "必须是 whsec_ 加上 24 到 64 字节的 base64",
  },

  // Credentials
  not_a_key: { en: "it does not have the form of a key (ptk_live_...)", zh: "格式不是 API 密钥（ptk_live_...）" },
  key_scheme: {
    en: "'Authorization' must be Bearer, Key, Token or Basic, with a key",
    zh: "“Authorization” 必须是 Bearer、Key、Token 或 Basic 加密钥",
  },
  two_credentials: {
    en: "the request carries two different credentials; send only one",
    zh: "请求带有两个不同的凭据；请只发送一个",
  },
  credential_length: { en: "it is too long", zh: "过长" },
  checksum: { en: "its checksum is wrong; copy it again", zh: "校验和错误；请重新复制" },
  bearer: { en: "send it as 'Authorization: Bearer <token>'", zh: "请用 “Authorization: Bearer <令牌>” 发送" },
  not_a_card_token: { en: "it does not have the form of a card's token (ptc_...)", zh: "格式不是显卡令牌（ptc_...）" },
  assertion: {
    en: "the assertion of Cloudflare Access is not valid; sign in again",
    zh: "Cloudflare Access 的断言无效；请重新登录",
  },
  access_keys: {
    en: "the signing keys of Cloudflare Access cannot be fetched now; try again",
    zh: "目前无法获取 Cloudflare Access 的签名公钥；请重试",
  },
  role: { en: "it requires the role '{role}'", zh: "需要角色 “{role}”" },
  no_operator: {
    en: "no operator has the identity that Cloudflare Access reports; ask an admin to add it",
    zh: "没有运维身份与 Cloudflare Access 给出的身份相符；请管理员添加",
  },
  foreign_page: {
    en: "changes through Cloudflare Access require this host's own Origin and Content-Type: {type}",
    zh: "经由 Cloudflare Access 的更改必须带有本站自身的 Origin 和 Content-Type: {type}",
  },

  // Limits and queues
  results: { en: "{quota} results", zh: " {quota} 个结果" },
  cost_units: { en: "{quota} cost units", zh: " {quota} 个计费单位" },
  queue_length: { en: "the queue is full ({length} of {max})", zh: "队列已满（{length}/{max}）" },
  queue_silent: { en: "the queue is not responding", zh: "队列没有响应" },
  large_bodies: { en: "too many large request bodies are being received", zh: "正在接收的大请求体过多" },
  held_requests: {
    en: "too many requests over the tenant's limits are already being held",
    zh: "超出租户上限而等待的请求过多",
  },

  // Origins' answers
  headers_too_large: { en: "its headers are too large", zh: "响应头过大" },
  not_final: { en: "status {status} is not a final status", zh: "状态 {status} 不是最终状态" },
  redirect: { en: "it redirects", zh: "返回了重定向" },
  html: { en: "it is an HTML page", zh: "返回了 HTML 页面" },
  not_image: { en: "it is not an image", zh: "不是图像" },
  not_json_or_image: { en: "it is neither JSON nor an image", zh: "既不是 JSON 也不是图像" },
  not_sound: { en: "it is not a sound", zh: "不是音频" },
  no_images: { en: "it contains no images", zh: "其中没有图像" },
  no_content: { en: "status {status} has no content", zh: "状态 {status} 没有内容" },
  damaged: { en: "its {type} is damaged", zh: "其中的 {type} 已损坏" },
  damaged_json: { en: "its JSON is damaged", zh: "其 JSON 已损坏" },
  damaged_image: { en: "an image in it is damaged", zh: "其中有图像已损坏" },
  answer_too_large: {
    en: "it is larger than {max_mib} MiB, the most that can be kept or converted here; ask for fewer or smaller images at once, or call the service's own route",
    zh: "大于 {max_mib} MiB（此处可保存或转换的上限）；请一次请求更少或更小的图像，或调用服务自身的路由",
  },
  wrong_type: { en: "it is {type}", zh: "类型为 {type}" },
  empty_sound: { en: "its sound is empty", zh: "音频为空" },
  wav_empty: { en: "its WAV has no samples", zh: "WAV 中没有采样" },
  wav_format: { en: "its WAV is not 16-bit mono", zh: "WAV 不是 16 位单声道" },
  failed_elsewhere: { en: "the same request failed for another caller", zh: "同一请求在另一调用方处失败" },

  // Admin API
  route_taken: { en: "is already the route of another service", zh: "已被另一服务使用" },
  name_taken: { en: "is or was another operator's name", zh: "现为或曾为另一运维身份的名称" },
  email_taken: { en: "already belongs to another operator", zh: "已属于另一运维身份" },
  admin_name: { en: "is reserved for the admin token", zh: "保留给管理令牌" },
  operator_email: {
    en: "must be an e-mail address, or the client id of an Access service token",
    zh: "必须是电子邮件地址，或 Access 服务令牌的 client id",
  },
  email_required: { en: "is required for an operator without a token", zh: "没有令牌的运维身份必须提供" },
  operator_revoked: { en: "is a revoked operator; create a new one", zh: "该运维身份已被吊销；请新建" },
  operator_expired: {
    en: "is an expired operator; set a later `expires_at` first",
    zh: "该运维身份已过期；请先设置更晚的 expires_at",
  },
  key_revoked: { en: "is a revoked key; create a new one", zh: "该密钥已被吊销；请新建" },
  key_expired: {
    en: "is an expired key; set a later `expires_at` first",
    zh: "该密钥已过期；请先设置更晚的 expires_at",
  },
  key_disabled: { en: "is a disabled key; enable it first", zh: "该密钥已停用；请先启用" },
  service_required: { en: "is required to create a service", zh: "新建服务时必须提供" },
  services_at_most: { en: "there are already {max} services, the maximum", zh: "已有 {max} 个服务，达到上限" },
  kind_fixed: {
    en: "cannot change from '{kind}'; delete the service and create it again",
    zh: "不能从 “{kind}” 改为其他种类；请删除该服务后重新创建",
  },
  route: {
    en: "must be a path that starts and ends with a slash, without escapes",
    zh: "必须是以斜杠开头和结尾、不含转义符的路径",
  },
  no_dot_segments: { en: "must not contain dot segments", zh: "不得包含点路径段" },
  own_path: {
    en: "must not be below '{path}', which Portico itself serves",
    zh: "不得位于 Portico 自身的 “{path}” 之下",
  },
  listed_path: {
    en: "must be a path below the route, without a leading slash, query or escape",
    zh: "必须是路由之下的路径，不含开头的斜杠、查询参数和转义符",
  },
  task_path: {
    en: "must be a path below the route, without a leading slash, query, escape or star",
    zh: "必须是路由之下的路径，不含开头的斜杠、查询参数、转义符和星号",
  },
  task_unlisted: { en: "must be listed in `paths` as `run` for POST", zh: "必须在 paths 中列为 POST 的 run 路径" },
  service_length: {
    en: "is too long: a service may have at most {max} characters of JSON",
    zh: "过长：服务的 JSON 最多 {max} 个字符",
  },
  field_name: { en: "must be the name of a field; dots lead into objects", zh: "必须是字段名；点号表示进入对象内部" },
  field_flat: { en: "must be a field of the body, without dots", zh: "必须是请求体的字段，不含点号" },
  price: {
    en: "must have `flat`, `product` and `per`, or `characters` and `per`",
    zh: "必须包含 flat，或 product 与 per，或 characters 与 per",
  },
  origin_required: { en: "is required to list a card", zh: "登记显卡时必须提供" },
  cards_at_most: { en: "there are already {max} cards, the maximum", zh: "已有 {max} 张卡，达到上限" },
  limits_services: { en: "may have limits for at most {max} services", zh: "最多可为 {max} 个服务设置单独的限额" },
  web_origin: {
    en: "must be a web origin as browsers send it, such as https://app.example.com",
    zh: "必须是浏览器所发送的网页来源，例如 https://app.example.com",
  },
  any_origin: { en: "must have no other element beside `*`", zh: "包含 * 时不得有其他元素" },
  purge_scope: {
    en: "is required, unless `service` or `model_version` is given",
    zh: "未给出 service 或 model_version 时必须提供",
  },
} as const satisfies Record<string, Text>;

export type DetailKey = keyof typeof DETAILS;

/** The names in braces of a text. */
type Names<T extends string> = T extends `${string}{${infer N}}${infer Rest}` ? N | Names<Rest> : never;
type FactNames<K extends DetailKey> = Names<(typeof DETAILS)[K]["en" | "zh"]>;

/** The facts that a detail's texts name, as a rest parameter: empty when they name none. */
export type FactsOf<K extends DetailKey> = [FactNames<K>] extends [never]
  ? []
  : [facts: Record<FactNames<K>, string | number>];

/** The keys of details without facts. Schemas use them as error messages. */
export type PlainKey = { [K in DetailKey]: [FactNames<K>] extends [never] ? K : never }[DetailKey];

/** A detail in the form of a refusal's facts: its key, and the facts that its text names. */
export type Detail = Record<string, string | number> & { detail: DetailKey };

export function detail<K extends DetailKey>(key: K, ...[facts]: FactsOf<K>): Detail {
  return { ...facts, detail: key };
}

/** A schema's error message is the key of a detail; `checkFields` converts it. This checks that the key exists. */
export const wrong = (key: PlainKey): string => key;

export function isDetailKey(text: unknown): text is DetailKey {
  return typeof text === "string" && Object.hasOwn(DETAILS, text);
}

/** Returns the text of the detail in a refusal's facts. Jobs stored by an older version have a text, not a key. */
export function detailText(facts: Record<string, string | number>, language: keyof Text): string {
  const { detail: key = "" } = facts;
  return isDetailKey(key) ? filled(DETAILS[key][language], facts) : String(key);
}

export function filled(text: string, facts: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(facts[name] ?? ""));
}
