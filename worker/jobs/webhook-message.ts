/**
 * Builds a webhook message: its body and its signature headers. Built anew for each attempt, so that its URLs are
 * fresh. Each dialect has its own format.
 */
import { Webhook } from "standardwebhooks";
import type { Dialect, SendRequest, Subject } from "../../durable-objects/courier-protocol.ts";
import type { JobView as View } from "../../durable-objects/job-protocol.ts";
import { predictionOf } from "../dialects/replicate/prediction.ts";
import { falMessage, falSignature } from "../dialects/fal/webhook-message.ts";
import type { Env } from "../env.ts";
import { iso } from "../api/time.ts";
import { isRefusal } from "../refusal.ts";
import { quietTrace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { viewOf } from "./submit.ts";
import { jobView, type Showing } from "./view.ts";
import { tenantSecret } from "./webhook.ts";

interface Told {
  content: unknown;
  /** The secret given with the job or batch; null: the tenant's secrets sign. */
  secret: string | null;
}

/** Returns the body and headers, or null if the job or batch no longer exists. */
export async function buildMessage(
  env: Env,
  letter: SendRequest,
  now: Date,
): Promise<{ body: string; headers: Headers } | null> {
  const told = await SUBJECTS[letter.subject.kind](env, letter);
  if (told === null) return null;
  const body = JSON.stringify(told.content);
  const own = letter.generations.map((generation) => tenantSecret(env, letter.tenant, generation));
  const secrets = told.secret === null ? await Promise.all(own) : [told.secret];
  const headers = new Headers({
    "content-type": "application/json",
    "user-agent": "Portico-Webhooks",
    "webhook-id": letter.event,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
    "webhook-signature": secrets.map((secret) => new Webhook(secret).sign(letter.event, now, body)).join(" "),
  });
  for (const [name, value] of await OWN_HEADERS[letter.dialect](env, letter, body, now)) headers.set(name, value);
  return { body, headers };
}

const SUBJECTS: Record<Subject["kind"], (env: Env, letter: SendRequest) => Promise<Told | null>> = {
  job: async (env, letter) => {
    const { id } = letter.subject;
    const [view, webhook] = await Promise.all([
      viewOf(env, letter.tenant, id),
      withTimeout(env.JOB.getByName(id).webhook()),
    ]);
    if (isRefusal(view)) return null;
    const showing = { env, trace: quietTrace(view.spec.id, Date.now()), base: view.spec.base };
    return { content: await JOB[letter.dialect](showing, view, letter), secret: webhook?.secret ?? null };
  },
  batch: async (env, letter) => {
    const batch = await withTimeout(env.BACKLOG.getByName(letter.tenant).batch(letter.subject.id));
    if (batch === null) return null;
    const { id, counts, jobs, webhook } = batch;
    return { content: event(letter, { id, counts, jobs }), secret: webhook?.secret ?? null };
  },
};

const JOB: Record<Dialect, (showing: Showing, view: View, letter: SendRequest) => Promise<unknown>> = {
  native: async (showing, view, letter) => event(letter, await jobView(showing, view)),
  replicate: (showing, view, { type }) => predictionOf(showing, view, type === "job.started" ? "processing" : null),
  fal: falMessage,
};

/** Headers that a dialect's receivers check in addition to those of Standard Webhooks. */
const OWN_HEADERS: Record<
  Dialect,
  (env: Env, letter: SendRequest, body: string, now: Date) => Promise<[string, string][]>
> = {
  native: async () => [],
  replicate: async () => [],
  fal: falSignature,
};

/** The payload format of Standard Webhooks. */
function event({ type, at }: SendRequest, data: unknown) {
  return { type, timestamp: iso(at), data };
}
