/** The deployed Worker, except that one R2 operation on results of jobs fails: the one named by `/break/<name>`. */
import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from "cloudflare:workers";
import type { Env, RunParams } from "../../worker/env.ts";
import worker from "../../worker/index.ts";
import { runOnce } from "../../worker/jobs/run-once.ts";

export * from "../../worker/index.ts";

const BREAK = "/break/";
let broken = "";

/** A bucket whose broken operation fails for results. */
function breaking(bucket: R2Bucket): R2Bucket {
  return new Proxy(bucket, {
    get(_, name) {
      const member: unknown = Reflect.get(bucket, name, bucket);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown =>
        name === broken && String(args[0]).startsWith("results/")
          ? Promise.reject(new Error("the store is broken"))
          : Reflect.apply(member, bucket, args);
    },
  });
}

/** Like worker/jobs/run-job.ts, but with the breaking bucket. */
export class RunJob extends WorkflowEntrypoint<Env, RunParams> {
  override async run(event: Readonly<WorkflowEvent<RunParams>>, step: WorkflowStep): Promise<void> {
    const { job, run } = event.payload;
    const env = { ...this.env, RESULTS: breaking(this.env.RESULTS) };
    await step.do("run", async () => {
      await runOnce(env, this.ctx, job, run);
    });
  }
}

export default {
  fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(BREAK)) return worker.fetch(request, env, ctx);
    broken = pathname.slice(BREAK.length);
    return new Response(null, { status: 204 });
  },
} satisfies ExportedHandler<Env>;
