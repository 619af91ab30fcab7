/**
 * Stage 2: parses the request. Turns an HTTP request to a service route into an Ask: one parsed request whose body is
 * bounded and whose fields have been checked against the service's rules. Dialects and jobs build Asks of their own.
 */
import { type Body, type Incoming, letGo, readBody } from "./body/body.ts";
import type { ServiceRow } from "./db/queries.ts";
import { type Delivery, deliveryOf } from "./results/delivery.ts";
import {
  type Fields,
  isForm,
  isJson,
  JSON_TYPE,
  jsonOf,
  malformedJson,
  MULTIPART,
  parseFields,
  startsAsObject,
  URLENCODED,
} from "./body/fields.ts";
import { mediaTypeOf } from "./results/media.ts";
import { pricedFields } from "./caller/price.ts";
import { detail } from "./details.ts";
import { invalid, type Refusal, isRefusal, refuse } from "./refusal.ts";
import { fieldRefusal, rulesOf } from "./services/rules.ts";
import { NoScan, type Scan, scanOf } from "./body/scan/scan.ts";
import { type SpoolTarget, spool } from "./body/spool.ts";

export interface Ask {
  service: ServiceRow;
  as: "run" | "read";
  method: string;
  /** The whole normalized path, route included. */
  path: string;
  /** The query as received: with its `?`, or empty. */
  query: string;
  headers: Headers;
  body: Body;
  /** Lower case, without parameters; null without a body. */
  mediaType: string | null;
  /**
   * The fields of a JSON or form body. For a spooled body, only the fields that determine the number of results and the
   * price; for a form these are lists of values.
   */
  fields: Fields | null;
  /** The caller's own deadline for the first byte, ms since the epoch. */
  deadlineAt: number | null;
  /** RFC 9111 request directives that this cache obeys. */
  directives: { noStore: boolean; noCache: boolean; onlyIfCached: boolean };
  /** JSON pointer to the images in the answer, when a dialect sets it; otherwise the service kind's default applies. */
  resultsAt?: string | null;
  delivery: Delivery;
  /** Why the request must not run. Reported only if no earlier request has the same idempotency name. */
  deferredRefusal?: Refusal;
}

const TIMEOUT_S_MAX = 3600;
/**
 * Maximum size of a request's target and headers, bytes. Many servers accept 16 KiB of head in total and reset the
 * connection beyond that, which would count as a failure of every card that is tried.
 */
const HEAD_BYTES_MAX = 14 * 1024;
/** Body fields that say how many results are requested. */
const COUNTS = ["batch_size", "n_iter"];

export interface Asked {
  tenant: string;
  service: ServiceRow;
  as: "run" | "read";
  path: string;
  query: string;
  /** The body must outlive the request, so a large one is spooled even if no rule needs to inspect it. */
  later?: boolean;
  /**
   * The request carries an idempotency name and may have run already, so invalid fields are recorded in
   * `Ask.deferredRefusal` instead of being refused here.
   */
  named?: boolean;
  /** The body comes from R2 and was checked when it was stored there. */
  laid?: boolean;
}

export async function parseAsk(
  request: Request,
  asked: Asked,
  place: SpoolTarget,
  now: number,
): Promise<Ask | Refusal> {
  const { service } = asked;
  const deadlineAt = deadline(request.headers, now);
  if (isRefusal(deadlineAt)) return deadlineAt;
  const asDirected = directives(request.headers.get("cache-control"));
  const delivery = deliveryOf(request.headers, service.config, asDirected.noStore);
  if (isRefusal(delivery)) return delivery;
  const mediaType = mediaTypeOf(request.headers);
  const unfit = refuseHead(request, asked, mediaType);
  if (unfit !== null) return unfit;
  const received = await receive(request, asked, place, mediaType);
  if (isRefusal(received)) return received;
  const { body, counts } = received;
  // The Fetch standard does not allow such a request, so it could not be forwarded and would look like a failure of the
  // card.
  if (body.kind !== "none" && (request.method === "GET" || request.method === "HEAD")) {
    letGo(body);
    return invalid("body", "no_body", { method: request.method });
  }
  // A spooled body was checked while it was received.
  const isSeen = body.kind === "spooled" || asked.laid === true;
  const fields = isSeen ? counts : await checkedFields(body, request, mediaType, service);
  if (isRefusal(fields) && (asked.named !== true || body.kind !== "bytes")) {
    letGo(body);
    return fields;
  }
  const { as, path, query } = asked;
  return {
    service,
    as,
    path,
    query,
    method: request.method,
    headers: request.headers,
    body,
    mediaType: body.kind === "none" ? null : mediaType,
    ...(isRefusal(fields) ? { fields: null, deferredRefusal: fields } : { fields }),
    deadlineAt,
    directives: asDirected,
    delivery,
  };
}

/** Checks what can be refused before the body is read: the head's size, the body's type, the fields of the query. */
function refuseHead(request: Request, asked: Asked, mediaType: string | null): Refusal | null {
  const { service, as, query } = asked;
  const unsendable = headRefusal(request, asked);
  if (unsendable !== null || as !== "run") return unsendable;
  const brings = request.method === "POST" || request.body !== null;
  const unsupported = brings ? mediaTypeRefusal(service, mediaType) : null;
  if (unsupported !== null) return unsupported;
  return query === "" ? null : fieldRefusal(queryFields(query), service.config);
}

/** Reads the body. `counts`: the fields of a spooled body that the quota and the price need. */
async function receive(
  request: Request,
  { service, tenant, later }: Asked,
  place: SpoolTarget,
  mediaType: string | null,
): Promise<{ body: Body; counts: Fields | null } | Refusal> {
  const contentType = request.headers.get("content-type") ?? "";
  const kept = [...COUNTS, ...pricedFields(service.config)];
  const scanAs = (type: string | null): Scan | null => scanOf(type, contentType, rulesOf(service.config), kept);
  const scan = isRuled(service) ? scanAs(mediaType) : null;
  const spoolIt = async (incoming: Incoming): Promise<Body | Refusal | null> => {
    if (scan !== null) return spool(incoming, scan, place);
    const isObject = isRuled(service) && (await incoming.startsAsObject());
    if (isRefusal(isObject)) return incoming.stop(isObject);
    const json = isObject ? scanAs(JSON_TYPE) : later ? new NoScan() : null;
    return json === null ? null : spool(incoming, json, place);
  };
  const max = service.config.max_body_mb * 1e6;
  const body = await readBody(request, { max, tenant, spool: isRuled(service) || later ? spoolIt : null });
  if (isRefusal(body)) return body;
  return { body, counts: scan !== null ? { kind: "json", value: scan.kept } : null };
}

function headRefusal({ headers }: Request, { path, query }: Asked): Refusal | null {
  let bytes = path.length + query.length;
  for (const [name, value] of headers) bytes += name.length + value.length + 4;
  return bytes <= HEAD_BYTES_MAX ? null : invalid("headers", "head_at_most", { max_kib: HEAD_BYTES_MAX / 1024 });
}

async function checkedFields(
  body: Body,
  request: Request,
  mediaType: string | null,
  service: ServiceRow,
): Promise<Fields | null | Refusal> {
  let fields: Fields | null | Refusal = null;
  if (body.kind === "bytes") {
    fields = await parseFields(body.bytes, mediaType, request.headers.get("content-type") ?? "");
    if (fields === null && isRuled(service)) return disguised(body.bytes, service);
  } else if (body.kind === "none" && request.method === "POST" && isJson(mediaType)) {
    // Clients send a Content-Type even on requests without a body.
    fields = malformedJson(detail("empty_body"));
  }
  // A malformed body that no rule applies to is left to the origin to judge.
  if (isRefusal(fields)) return service.config.kind === "http" && !isRuled(service) ? null : fields;
  return fields === null ? null : (fieldRefusal(fields, service.config) ?? fields);
}

/** Many servers parse JSON under any content type, so the rules apply to every body that looks like a JSON object. */
function disguised(bytes: Uint8Array, { config }: ServiceRow): Refusal | null {
  if (startsAsObject(bytes) !== true) return null;
  const fields = jsonOf(bytes);
  return isRefusal(fields) ? fields : fieldRefusal(fields, config);
}

/** Some servers read form fields from the query as well. */
function queryFields(query: string): Fields {
  const parts = Array.from(new URLSearchParams(query), ([name, value]) => ({ name, filename: null, type: "", value }));
  return { kind: "form", parts };
}

/** Whether a rule or the price depends on the body's fields. */
function isRuled({ config }: ServiceRow): boolean {
  const { bounds, forbid } = config;
  return forbid.length > 0 || Object.keys(bounds).length > 0 || pricedFields(config).length > 0;
}

/** Refuses media types that an `image` or `tts` service's origins do not accept; an `http` service accepts any. */
function mediaTypeRefusal({ config }: ServiceRow, mediaType: string | null): Refusal | null {
  if (config.kind === "http" || isJson(mediaType)) return null;
  if (config.kind === "tts" && isForm(mediaType)) return null;
  const expected = config.kind === "image" ? "application/json" : `application/json, ${MULTIPART}, ${URLENCODED}`;
  return refuse("unsupported_media_type", { facts: { expected } });
}

/** Reads `X-Timeout-S`, or else the header that the `openai` client sends when it is given a timeout. */
function deadline(headers: Headers, now: number): number | null | Refusal {
  const own = headers.get("x-timeout-s");
  if (own !== null) {
    const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(own.trim()) ? Number(own) : Number.NaN;
    if (!(seconds >= 1 && seconds <= TIMEOUT_S_MAX)) return invalid("X-Timeout-S", "seconds", { max: TIMEOUT_S_MAX });
    return now + seconds * 1000;
  }
  const stainless = Number(headers.get("x-stainless-timeout") ?? Number.NaN);
  return stainless >= 1 && stainless <= TIMEOUT_S_MAX ? now + stainless * 1000 : null;
}

function directives(header: string | null): Ask["directives"] {
  const names = new Set(
    (header ?? "")
      .toLowerCase()
      .split(",")
      .map((part) => part.split("=")[0]?.trim()),
  );
  return { noStore: names.has("no-store"), noCache: names.has("no-cache"), onlyIfCached: names.has("only-if-cached") };
}
