/**
 * `Prefer` (RFC 7240) on a service's own route. `respond-async` turns the request into a job. `wait=N` does too, and
 * answers as the route would if the job ends within N s.
 */
import type { JobView } from "../../durable-objects/job-protocol.ts";
import type { Outlook } from "../../durable-objects/pool-protocol.ts";
import type { RenderedAnswer } from "../answer.ts";
import type { Ask } from "../ask.ts";
import { type Caller, mayUse } from "../auth.ts";
import { lookUp, type Stored } from "../cache.ts";
import { answerKey } from "../results/stored-answer.ts";
import type { Fingerprint } from "../fingerprint.ts";
import { findStored } from "../results/recall.ts";
import { removeNow } from "../results/removal.ts";
import { allRecorded } from "../results/rows.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { accepted } from "./api.ts";
import { limitsIn } from "../caller/tenant-limits.ts";
import type { Env } from "../env.ts";
import type { CallContext } from "../call-context.ts";
import { whileAllowed } from "./allowed.ts";
import type { Once } from "../once.ts";
import { keptAs } from "./run-once.ts";
import { submissionOf, submit, viewOf } from "./submit.ts";
import { refusalOf } from "./view.ts";

/** Longest `Prefer: wait`, in seconds. */
const WAIT_S_MAX = 60;
/** Longest wait for the Pool's estimate. */
const OUTLOOK_MS_MAX = 1_000;
/** Longest wait of one call to the Job. */
const ASK_MS = 20_000;

/** A preference that makes the request a job. `waitS`: how long the caller waits for it, in seconds; 0: not at all. */
export interface Preference {
  waitS: number;
  /** Value of `Preference-Applied`. */
  applied: string;
}

/**
 * Returns null if no preference asks for a job. By RFC 7240 section 2, preferences that are unknown or cannot be
 * honored are ignored, and white space around `=` and quotes have no meaning.
 */
export function preferenceOf(headers: Headers): Preference | null {
  const waitS = waitOf(headers);
  if (waitS !== null) return { waitS, applied: `wait=${waitS}` };
  const wanted = (headers.get("prefer") ?? "").split(",").map((one) => one.split(";")[0]?.trim().toLowerCase());
  return wanted.includes("respond-async") ? { waitS: 0, applied: "respond-async" } : null;
}

const WAIT = /(?:^|,)\s*wait\s*(?:=\s*("?)(\d+)\1\s*)?(?=$|[,;])/i;

/** Seconds of `Prefer: wait=N`, capped at WAIT_S_MAX; `wait` alone means WAIT_S_MAX. Null: absent, 0 or invalid. */
export function waitOf(headers: Headers): number | null {
  const found = WAIT.exec(headers.get("prefer") ?? "");
  const seconds = found === null ? 0 : Math.min(WAIT_S_MAX, Number(found[2] ?? WAIT_S_MAX));
  return seconds === 0 ? null : seconds;
}

/**
 * Refuses a job whose caller's deadline cannot be met according to the Pool's current estimate, as the Pool does for
 * other requests. The estimate does not include jobs of the tenant that have not entered the Pool yet. Without an
 * estimate, or if the Pool does not answer in time, the job is accepted.
 */
export async function unmeetable(env: Env, caller: Caller, { service, deadlineAt }: Ask): Promise<Refusal | null> {
  if (deadlineAt === null) return null;
  const { concurrent } = limitsIn(caller.limits, service.id);
  const outlook = await newcomersOutlook(env, caller.tenant, service.id, concurrent);
  const firstByteMs = outlook?.firstByteMs ?? null;
  if (firstByteMs === null) return null;
  const startMs = outlook?.waiting?.startMs ?? 0;
  if (Date.now() + startMs + firstByteMs <= deadlineAt) return null;
  const facts = { estimate_s: Math.round((startMs + firstByteMs) / 100) / 10 };
  return refuse("deadline_unmeetable", { facts, retryAfterMs: startMs === 0 ? null : startMs });
}

async function newcomersOutlook(
  env: Env,
  tenant: string,
  service: string,
  concurrent: number,
): Promise<Outlook | null> {
  try {
    // No ticket has an empty id, so this is the estimate for a new request.
    return await withTimeout(env.POOL.getByName(service).outlook("", tenant, concurrent), OUTLOOK_MS_MAX);
  } catch (error) {
    console.warn(JSON.stringify({ event: "outlook_missed", service, error: String(error) }));
    return null;
  }
}

/** Submits the request as a job and returns its id. */
export async function submitAsJob(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  preference: Preference,
  once: Once | null,
): Promise<string | Refusal> {
  const denied = mayUse(caller, "jobs");
  if (denied !== null) return denied;
  context.trace.headers.set("preference-applied", preference.applied);
  // The caller's own deadline is also the deadline for the job to start.
  const startDeadlineAt = ask.deadlineAt === null ? null : Math.ceil(ask.deadlineAt);
  const draft = { ask, priority: "normal" as const, startDeadlineAt, webhook: null };
  const view = await submit(submissionOf(context, caller, once), draft);
  return isRefusal(view) ? view : view.spec.id;
}

/** Returns the job's answer as the route would give it, or 202. `serveStored` renders a stored answer for the route. */
export async function answerFromJob(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  preference: Preference | null,
  id: string,
  serveStored: (stored: Stored) => RenderedAnswer,
): Promise<RenderedAnswer | Refusal> {
  context.trace.fields["job"] = id;
  const view = await viewOf(context.env, caller.tenant, id);
  if (isRefusal(view)) return view;
  const waitS = preference?.waitS ?? 0;
  const last = await waitForJob(context, caller, view, waitS * 1000);
  if (isRefusal(last)) return last;
  const isOver = last.state.finishedAt !== null && waitS > 0;
  const answer = isOver ? await answerOf(context, caller, ask, fingerprint, last, serveStored) : null;
  if (answer !== null) return answer;
  const { status, headers, body } = await accepted(context, last);
  return { status, headers, body, results: [] };
}

/** Returns the job when it has ended, or as it is after `ms`. */
export async function waitForJob(
  context: CallContext,
  caller: Caller,
  first: JobView,
  ms: number,
): Promise<JobView | Refusal> {
  const { env, request } = context;
  const until = Date.now() + ms;
  let view: JobView | Refusal = first;
  while (!isRefusal(view) && view.state.finishedAt === null && Date.now() < until && !request.signal.aborted) {
    const { spec, state }: JobView = view;
    const askMs = Math.min(ASK_MS, until - Date.now());
    const changed: Promise<void> = withTimeout(env.JOB.getByName(spec.id).changed(state.status, askMs), 2 * ASK_MS);
    const held: Refusal | void = await whileAllowed(context, changed);
    view = isRefusal(held) ? held : await viewOf(env, caller.tenant, spec.id);
  }
  return view;
}

/** Returns null if no answer is available (any more); the job then says what became of it. */
async function answerOf(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  { spec, state }: JobView,
  serveStored: (stored: Stored) => RenderedAnswer,
): Promise<RenderedAnswer | Refusal | null> {
  const { env, base, ctx, trace } = context;
  const { startedAt, finishedAt, error, answer } = state;
  if (startedAt !== null && finishedAt !== null)
    Object.assign(trace.stages, { queue: Math.max(0, startedAt - spec.createdAt), origin: finishedAt - startedAt });
  const card = state.attempts.at(-1)?.card ?? null;
  if (card !== null) trace.headers.set("x-portico-card", card);
  if (answer !== null && answer.body !== null) {
    const headers = new Headers(answer.contentType === null ? {} : { "content-type": answer.contentType });
    return { status: answer.status, headers, body: answer.body, results: [] };
  }
  if (error !== null) return refusalOf(error);
  if (state.status !== "succeeded") return null;
  const key = answerKey(caller.tenant, await keptAs(spec.id));
  const own = await lookUp({ env, base, ctx }, key, Date.now());
  if (own !== null && own !== "expired") {
    const shown = serveStored(own);
    return ask.directives.noStore ? onceRead(shown, ctx, () => removed(context, caller, own.results, key)) : shown;
  }
  const stored = await findStored({ env, ask, fingerprint, caller, trace, base, ctx });
  return stored === null || stored === "expired" ? null : serveStored(stored);
}

/** Calls `then` when the answer has been read to its end. */
function onceRead(shown: RenderedAnswer, ctx: CallContext["ctx"], then: () => Promise<void>): RenderedAnswer {
  const end = (): void => ctx.waitUntil(then());
  if (!(shown.body instanceof ReadableStream)) {
    end();
    return shown;
  }
  return { ...shown, body: shown.body.pipeThrough(new TransformStream({ flush: end })) };
}

/** Removes what a `no-store` job had to keep for its caller. What this leaves behind expires within an hour. */
async function removed(context: CallContext, { tenant }: Caller, results: string[], answer: string): Promise<void> {
  try {
    await allRecorded();
    await removeNow(context, tenant, results, [answer]);
  } catch (error) {
    console.warn(JSON.stringify({ event: "unstored_left", results, error: String(error) }));
  }
}
