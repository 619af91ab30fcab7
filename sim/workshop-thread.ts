/** A worker thread of the workshop: receives a job, returns bytes. */
import { parentPort } from "node:worker_threads";
import { decodePng } from "./image-file.ts";
import { drawPicture } from "./picture.ts";
import { encodePng } from "./png.ts";
import { openingOf, planSpeech } from "./speech.ts";
import { speak } from "./voice.ts";
import { SAMPLE_RATE_HZ } from "./wav.ts";
import type { Job, Made, PictureJob } from "./workshop.ts";

/** At most ten minutes are synthesized; a longer sound repeats them. */
const SPOKEN_SAMPLES_MAX = 600 * SAMPLE_RATE_HZ;

parentPort?.on("message", (job: Job) => {
  const made = make(job);
  parentPort?.postMessage(made, "bytes" in made ? [made.bytes.buffer] : []);
});

function make(job: Job): Made {
  try {
    if (job.kind === "picture") return { bytes: owned(drawFile(job)) };
    const speech = openingOf(planSpeech(job.text, job.speed), SPOKEN_SAMPLES_MAX);
    const samples = speak(speech, job.voice);
    return { bytes: owned(new Uint8Array(samples.buffer)) };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

function drawFile({ sketch, parameters, init }: PictureJob): Uint8Array {
  const under = init && decodePng(init.file);
  return encodePng(
    drawPicture(under ? { ...sketch, under: { picture: under, share: init.share } } : sketch),
    parameters,
  );
}

/** Small Buffers share a pool that must not be transferred, so the bytes are copied. */
function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}
