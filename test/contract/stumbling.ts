/** The deployed Worker, but half of its writes to R2 fail. */
import type { Env } from "../../worker/env.ts";
import worker from "../../worker/index.ts";

export * from "../../worker/index.ts";

/** State of a pseudo-random sequence, so that no number of tries fits a pattern. */
let state = 20_261_125;
function stumbles(): boolean {
  state = Math.imul(state, 1_103_515_245) + 12_345;
  return ((state >>> 16) & 1) === 1;
}

const counts = { tried: 0, failed: 0 };

function stumbling<T extends object>(thing: T, writes: readonly string[]): T {
  return new Proxy(thing, {
    get(_, name) {
      const member: unknown = Reflect.get(thing, name, thing);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        if (writes.includes(String(name))) {
          counts.tried++;
          if (stumbles()) {
            counts.failed++;
            return Promise.reject(new Error("the store stumbles"));
          }
        }
        const made: unknown = Reflect.apply(member, thing, args);
        if (name !== "createMultipartUpload") return made;
        return (made as Promise<R2MultipartUpload>).then((upload) => stumbling(upload, ["uploadPart", "complete"]));
      };
    },
  });
}

let wrapped: Env | undefined;

export default {
  async fetch(request, env, ctx) {
    wrapped ??= { ...env, RESULTS: stumbling(env.RESULTS, ["put", "createMultipartUpload"]) };
    const answer = await worker.fetch(request, wrapped, ctx);
    const headers = new Headers(answer.headers);
    headers.set("x-stumbled", `${counts.failed} of ${counts.tried}`);
    return new Response(answer.body, { status: answer.status, headers });
  },
} satisfies ExportedHandler<Env>;
