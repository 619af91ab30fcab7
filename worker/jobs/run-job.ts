/**
 * The Workflow that runs a job: one instance a try, in one step, since a lease cannot be a step's result. What it does is
 * safe to do twice: its number shuts earlier instances out, and an answer that is in the store already is taken from there.
 * When the next try is due is the Backlog's to say.
 */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Env, RunParams } from "../env.ts";
import { runOnce } from "./run-once.ts";

/** Longer than the longest wait in line together with the longest run. */
const STEP_TIMEOUT = "24 hours";

export class RunJob extends WorkflowEntrypoint<Env, RunParams> {
  override async run(event: Readonly<WorkflowEvent<RunParams>>, step: WorkflowStep): Promise<void> {
    const { job, run } = event.payload;
    const options = { retries: { limit: 2, delay: "2 seconds", backoff: "constant" }, timeout: STEP_TIMEOUT } as const;
    await step.do("run", options, async () => {
      await runOnce(this.env, this.ctx, job, run);
    });
  }
}
