/**
 * Sends one webhook attempt for the Courier. The receiver is not trusted: its address is checked again, the time is
 * bounded, redirects are not followed, and only the status and `Retry-After` of its answer are read.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import type { SendRequest, SenderRpc, SendResult } from "../../durable-objects/courier-protocol.ts";
import { config, type Env } from "../env.ts";
import { retryAfterIn } from "../api/time.ts";
import { buildMessage } from "./webhook-message.ts";
import { DETAILS } from "../details.ts";
import { targetProblem } from "./webhook.ts";

/** From connecting to the response headers. */
const ANSWER_MS_MAX = 20_000;

export class Sender extends WorkerEntrypoint<Env> implements SenderRpc {
  async send(letter: SendRequest): Promise<SendResult> {
    const problem = targetProblem(letter.url, config(this.env).local);
    if (problem !== null) return unsent(`the URL ${DETAILS[problem].en}`);
    const written = await buildMessage(this.env, letter, new Date());
    if (written === null) return { ...unsent("the job or batch no longer exists"), again: false };
    return post(this.env, letter.url, written);
  }
}

async function post(env: Env, url: string, { body, headers }: { body: string; headers: Headers }): Promise<SendResult> {
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const init = { method: "POST", body, headers, redirect: "manual" as const, signal };
  try {
    const answer = await (isOwnMachine(url) || env.OUTSIDE === undefined
      ? fetch(url, init)
      : env.OUTSIDE.fetch(url, init));
    // Never read: the body is not needed and may be endless.
    await answer.body?.cancel();
    const { status } = answer;
    return { status, error: complaint(status), retryAfterMs: retryAfterIn(answer.headers, Date.now()), again: true };
  } catch {
    // The platform's error text may reveal the addresses behind a host name.
    return unsent(signal.aborted ? `no answer within ${ANSWER_MS_MAX / 1000} s` : "the connection failed or was lost");
  }
}

function complaint(status: number): string | null {
  if (status === 304) return "304 is the answer to a conditional request, which this is not";
  return status >= 300 && status < 400 ? "it redirects" : null;
}

/** Whether the URL is `http://127.0.0.1`. `http:` passes the address check in local mode only. */
function isOwnMachine(url: string): boolean {
  return new URL(url).protocol === "http:";
}

function unsent(error: string): SendResult {
  return { status: null, error, retryAfterMs: null, again: true };
}
