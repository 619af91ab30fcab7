/** The body of `POST /v1/jobs`: parsed in memory up to 8 MiB; beyond that, its `input` is left in R2. */
import type { Caller } from "../auth.ts";
import { BUFFERED_BYTES_MAX, letGo, readBody } from "../body/body.ts";
import { isJson } from "../body/fields.ts";
import { ENVELOPE_BYTES_MAX, EnvelopeScan } from "../body/scan/envelope.ts";
import { type Spooled, spool } from "../body/spool.ts";
import { jsonOfBody } from "../api/json-body.ts";
import type { CallContext } from "../call-context.ts";
import { mediaTypeOf } from "../results/media.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { catalog } from "../services/catalog.ts";
import type { Env } from "../env.ts";

/** An input in R2, for as long as its submission takes. */
export interface LargeInput {
  body: Spooled;
  range: { offset: number; length: number };
}

/** `value`: the parsed body, with null as `input` if that is `large`. The caller lets go of `large.body`. */
export interface JobBody {
  ok: true;
  value: unknown;
  large: LargeInput | null;
}

/** `depthMax`: code that walks an input later recurses once per nesting level. */
const LIMITS = { depthMax: 1_000, emptyIsObject: false };

export async function jobBody({ request, env, ctx }: CallContext, { tenant }: Caller): Promise<JobBody | Refusal> {
  if (!isJson(mediaTypeOf(request.headers)))
    return refuse("unsupported_media_type", { facts: { expected: "application/json" } });
  const scan = new EnvelopeScan("input");
  const target = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const max = await bytesMax(env);
  const body = await readBody(request, { max, tenant, spool: (incoming) => spool(incoming, scan, target) });
  if (isRefusal(body)) return body;
  if (body.kind === "spooled") {
    if (scan.range !== null) return { ok: true, value: scan.value, large: { body, range: scan.range } };
    letGo(body);
    return { ok: true, value: scan.value, large: null };
  }
  const json = jsonOfBody(request, body, LIMITS);
  return isRefusal(json) ? json : { ...json, large: null };
}

/** No service takes more; the one that is meant is known, and checks its own limit, when the body has been read. */
async function bytesMax(env: Env): Promise<number> {
  const services = await catalog(env);
  return ENVELOPE_BYTES_MAX + Math.max(BUFFERED_BYTES_MAX, ...services.map(({ config }) => config.max_body_mb * 1e6));
}
