/**
 * Performs a run whose answer is streamed: chunks are sent as the GPU makes them, a slow caller slows the GPU down, and
 * when a caller leaves, the run goes on as a ghost at the same pace.
 */
import { Sender, sendFailure } from "./delivery.ts";
import type { Bench, Exchange, Plan } from "./exchange.ts";
import { spoils } from "./faults.ts";
import { chunkDueMs } from "./timing.ts";
import type { Work } from "./work.ts";

export interface Stream {
  /** Null: the answer has no content type, as on CosyVoice's own routes. */
  readonly contentType: string | null;
  /** Bytes of the sound, and of one chunk; the header is sent with the first chunk. */
  readonly bytes: number;
  readonly chunkBytes: number;
  readonly header: Buffer;
  /** Makes the sound, and resolves to a function that returns the bytes from `from` to `to`. */
  make(gone: AbortSignal): Promise<Cutter>;
}

export async function performStream(bench: Bench, exchange: Exchange, plan: Plan, stream: Stream): Promise<void> {
  const { fault } = exchange;
  const work = bench.begin(exchange, plan);
  if (fault?.kind === "status") {
    await work.until(plan.ms);
    work.end("fault");
    if (!work.gone.aborted) sendFailure(exchange, fault);
    return;
  }
  const sender = new Sender(exchange, stream.header.length + stream.bytes, "chunked");
  sender.head(200, stream.contentType === null ? {} : { "content-type": stream.contentType });
  const outcome = await Promise.race([
    stream.make(work.gone).then(
      (cut) => ({ cut }),
      (error: unknown) => ({ error }),
    ),
    work.whenGone,
  ]);
  if (outcome && "error" in outcome && !work.gone.aborted) {
    // The response headers have been sent; only breaking the connection can still report the error.
    process.stderr.write(`a sound could not be made: ${String(outcome.error)}\n`);
    work.end("fault");
    exchange.res.destroy();
    return;
  }
  const cut = outcome && "cut" in outcome ? outcome.cut : null;
  await sendChunks(work, plan.ms, stream, sender, cut);
  work.end(sender.spoiled || spoils(fault) ? "fault" : "done");
  await sender.end();
}

type Cutter = (from: number, to: number) => Buffer;

async function sendChunks(
  work: Work,
  ms: number,
  { bytes, chunkBytes, header }: Stream,
  sender: Sender,
  cut: Cutter | null,
): Promise<void> {
  const count = Math.ceil(bytes / chunkBytes);
  for (let i = 0; i < count && work.cut === null && !sender.spoiled; i++) {
    if (cut === null || work.gone.aborted) return work.until(ms);
    await work.until(chunkDueMs(ms, i, count));
    if (work.cut !== null) return;
    const chunk = cut(i * chunkBytes, Math.min(bytes, (i + 1) * chunkBytes));
    await sender.write(i === 0 ? Buffer.concat([header, chunk]) : chunk);
  }
}
