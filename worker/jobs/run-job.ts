/**
 * The Workflow that runs a job: one instance per attempt, in a single step, because a lease cannot be passed between
 * steps. The step is safe to repeat: each begin has a run number that fences out earlier ones, and an answer that is
 * already stored is reused. The Backlog decides when the next attempt is due.
 */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Env, RunParams } from "../env.ts";
import { runOnce } from "./run-once.ts";

/** Longer than the longest time in line plus the longest run. */
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
