/**
 * Performs a run whose answer is sent whole: (1) the run starts, (2) the bytes are made while the service time passes,
 * (3) the slot is freed, (4) the answer is sent. The slot is freed before the first byte, so that a caller who has the
 * answer never finds its slot still counted. Only a stalled answer keeps the slot, because it simulates a GPU that
 * hangs.
 */
import type { Bench, Exchange, Plan } from "./exchange.ts";
import { JSON_TYPE, send, sendFailure, sendPage } from "./delivery.ts";
import { spoils } from "./faults.ts";
import type { Work } from "./work.ts";

export interface Answer {
  readonly contentType: string;
  readonly body: Buffer;
}

export async function perform<T>(
  bench: Bench,
  exchange: Exchange,
  plan: Plan,
  make: (gone: AbortSignal) => Promise<T>,
  shape: (made: T, work: Work) => Answer,
): Promise<void> {
  const { fault } = exchange;
  const work = bench.begin(exchange, plan); // (1)
  const making = make(work.gone).then(
    (made) => ({ made }),
    (error: unknown) => ({ error }),
  );
  await work.until(plan.ms); // (2)
  const outcome = await Promise.race([making, work.whenGone]);
  if (work.gone.aborted || outcome === undefined) {
    work.end("done"); // (3) a ghost, unless it was stopped or killed before
    return;
  }
  if ("error" in outcome) return fail(exchange, work, outcome.error);
  const answer = shape(outcome.made, work);
  if (fault?.kind === "status") {
    work.end("fault");
    sendFailure(exchange, fault);
    return;
  }
  if (fault?.kind !== "stall") work.end(spoils(fault) ? "fault" : "done"); // (3)
  await send(exchange, 200, { "content-type": answer.contentType }, answer.body); // (4)
  work.end("fault");
}

/** An internal error in the WebUI's format. */
function fail(exchange: Exchange, work: Work, error: unknown): void {
  work.end("fault");
  const message = error instanceof Error ? error.message : String(error);
  const said = { error: "RuntimeError", detail: "", body: "", errors: message };
  sendPage(exchange, 500, JSON_TYPE, JSON.stringify(said));
}
