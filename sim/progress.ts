/** The WebUI's progress endpoints: for the whole card, or for one task. */
import { sendJson, turnAway } from "./delivery.ts";
import type { Bench, Exchange, Upload } from "./exchange.ts";
import { Fields, jsonObject } from "./fields.ts";
import { jobTimestamp } from "./generation.ts";
import type { Work } from "./work.ts";

const PREVIEW_SIDE = 96;
/** Previews are drawn in this many stages, so that all requests at one stage share one drawing. */
const PREVIEW_STAGES = 5;

/** Reports the oldest picture in progress; `job_count` is the number of all runs on this GPU, ghosts included. */
export async function readProgress(bench: Bench, exchange: Exchange): Promise<void> {
  const work = bench.works.find(({ sketch }) => sketch !== null) ?? null;
  const progress = work?.progress ?? 0;
  const quiet = exchange.query.get("skip_current_image") === "true";
  await sendJson(exchange, 200, {
    progress: round(progress),
    eta_relative: work ? etaOf(work) : 0,
    state: {
      skipped: false,
      interrupted: work?.cut === "interrupted",
      stopping_generation: false,
      job: work ? "scripts_txt2img" : "",
      job_count: bench.works.length,
      job_timestamp: work ? jobTimestamp(work.run.started_at) : "0",
      job_no: 0,
      sampling_step: Math.floor(progress * (work?.sketch?.steps ?? 0)),
      sampling_steps: work?.sketch?.steps ?? 0,
    },
    current_image: work && !quiet ? await previewOf(bench, work) : null,
    textinfo: null,
  });
}

export async function readTask(bench: Bench, exchange: Exchange, upload: Upload): Promise<void> {
  const parsed = jsonObject(upload.body, exchange.req.headers["content-type"]);
  const fields = new Fields(parsed.ok ? parsed.value : {});
  const id = fields.required("id_task");
  if (!parsed.ok) return turnAway(bench, exchange, 422, [parsed.detail]);
  if (fields.details.length > 0) return turnAway(bench, exchange, 422, fields.details);
  const work = bench.works.find(({ task }) => task === id);
  const preview = work && fields.flag("live_preview", true) ? await previewOf(bench, work) : null;
  await sendJson(exchange, 200, {
    active: work !== undefined,
    queued: false,
    paused: false,
    completed: bench.completed(id),
    progress: work ? round(work.progress) : null,
    eta: work ? etaOf(work) : null,
    live_preview: preview === null ? null : `data:image/png;base64,${preview}`,
    id_live_preview: work ? stageOf(work) : -1,
    textinfo: work ? null : "Waiting...",
  });
}

function etaOf(work: Work): number | null {
  return Number.isFinite(work.ms) ? round((work.ms * (1 - work.progress)) / 1_000) : null;
}

function stageOf(work: Work): number {
  return Math.min(PREVIEW_STAGES - 1, Math.floor(work.progress * PREVIEW_STAGES));
}

/** A small version of the picture, with the noise that remains. */
async function previewOf(bench: Bench, work: Work): Promise<string | null> {
  if (!work.sketch) return null;
  const { width, height } = work.sketch;
  const scale = Math.min(1, PREVIEW_SIDE / Math.max(width, height));
  const veil = 0.75 - (0.7 * stageOf(work)) / (PREVIEW_STAGES - 1);
  const small = {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
    veil,
  };
  const png = await bench.workshop.make({
    kind: "picture",
    sketch: { ...work.sketch, ...small },
    parameters: null,
  });
  return png.toString("base64");
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
