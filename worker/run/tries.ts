/** A run from the first offer to its end: claims, tries, and failover to the next card. */
import { hold, letGo } from "../body/body.ts";
import { runOnCard } from "./card-run.ts";
import type { Line, Offer, Offered, Told } from "../dispatch.ts";
import { asRefusal, type Failure, isFailure } from "../origin.ts";
import { type Refusal, refuse } from "../refusal.ts";
import { end } from "./record.ts";
import type { Answer, Running } from "../run.ts";
import { unlessGone, unlessLate } from "./until.ts";

export class Tries {
  readonly #running: Running;
  readonly #line: Line;
  /** Handles the outcome of an identical request's run, which a retry may get after its Pool restarted. */
  readonly #shared: (told: Told) => Promise<Answer | Refusal | null>;
  readonly #tried: string[];
  /** A card is running it now. */
  onCard = false;

  constructor(running: Running, line: Line, shared: (told: Told) => Promise<Answer | Refusal | null>) {
    this.#running = running;
    this.#tried = [...(running.job?.avoid ?? [])];
    this.#line = line;
    this.#shared = shared;
  }

  async go(first: Offered): Promise<Answer | Refusal> {
    const { body } = this.#running.ask;
    // The run may outlive its caller.
    hold(body);
    try {
      return await this.#tries(first);
    } catch (error) {
      // An internal error: followers must not wait for this run.
      await end(this.#running, "failed", refuse("internal", { started: "unknown" }));
      await this.#line.finished({ kind: "failed", reason: "internal" }, null);
      throw error;
    } finally {
      letGo(body);
    }
  }

  async #tries(first: Offered): Promise<Answer | Refusal> {
    const { ask, gone, trace } = this.#running;
    const { tries, timeout_s } = ask.service.config.retry;
    let offer: Offer = first;
    let firstTryAt: number | null = null;
    let last: Failure | null = null;
    for (let tried = 0; ;) {
      if (offer.kind === "refused") return this.#lose(last === null ? offer.refusal : asRefusal(last));
      if (offer.kind === "told")
        return (await this.#shared(offer)) ?? (await this.#lose(refuse("origin_reset", { started: "unknown" })));
      const claimedFrom = Date.now();
      const lease = await this.#line.claim(offer, this.#attempt());
      trace.stages.queue = (trace.stages.queue ?? 0) + (Date.now() - claimedFrom);
      if (lease !== null) {
        firstTryAt ??= Date.now();
        tried++;
        this.onCard = true;
        this.#running.started?.(lease.grant);
        const outcome = await runOnCard(this.#running, this.#line, lease, offer.others);
        this.onCard = false;
        if (!isFailure(outcome)) return outcome;
        trace.fields["tries"] = tried;
        last = outcome;
        this.#tried.push(lease.grant.card);
        const late =
          Date.now() - firstTryAt > timeout_s * 1000 || Date.now() >= (ask.deadlineAt ?? Number.POSITIVE_INFINITY);
        if (tried >= tries || late || gone.aborted || ask.body.kind === "stream") return this.#lose(asRefusal(outcome));
        if (!(await this.#line.retry(this.#tried))) return this.#lose(asRefusal(outcome));
        this.#running.requeued?.(asRefusal(outcome));
      }
      const until: number | null = firstTryAt === null ? null : firstTryAt + timeout_s * 1000;
      const again: Offer | null = await unlessGone(unlessLate(this.#line.offer(), until), gone);
      if (again === null) {
        if (gone.aborted) {
          // Recorded before leaving: the Pool would record that it was canceled, but not what its tries used.
          await end(this.#running, "canceled", refuse("client_gone"));
          await this.#line.leave();
        }
        return this.#lose(last === null ? refuse("client_gone") : asRefusal(last));
      }
      offer = again;
    }
  }

  #attempt() {
    const { trace, caller, ask, fingerprint } = this.#running;
    return {
      request: trace.id,
      tenant: caller.tenant,
      service: ask.service.id,
      fingerprint: fingerprint.cacheable ? fingerprint.key : null,
    };
  }

  async #lose(refusal: Refusal): Promise<Refusal> {
    const { gone, ask } = this.#running;
    const broken = refusal.reason === "client_gone";
    // Releases the followers, who may run it: this run may have been aborted only because of its own caller.
    await this.#line.finished({ kind: "failed", reason: refusal.reason }, null);
    if (broken && gone.aborted) return end(this.#running, "canceled", refusal);
    // The run was aborted although the caller is still connected: the caller's own deadline had passed.
    const facts = { read_s: Math.round(((ask.deadlineAt ?? 0) - this.#running.trace.startedAt) / 1000) };
    const late = refuse("origin_timeout", { started: refusal.started, facts });
    return end(this.#running, "failed", broken ? late : refusal);
  }
}
