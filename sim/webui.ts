/** The Stable Diffusion WebUI of a card: its routes and the runs behind them. */
import { infoOf, parametersOf, sketchOf, parseSketch } from "./generation.ts";
import type { Generation } from "./generation.ts";
import { sendJson, turnAway } from "./delivery.ts";
import { loadOf } from "./exchange.ts";
import type { Bench, Exchange, Route, Upload } from "./exchange.ts";
import { jsonObject } from "./fields.ts";
import { LORAS, MODELS, SAMPLERS, UPSCALERS, memoryOf } from "./catalogue.ts";
import { perform } from "./perform.ts";
import { readProgress, readTask } from "./progress.ts";
import { pictureMs } from "./timing.ts";

const POST = ["POST"] as const;
const GET = ["GET"] as const;

const painting = (tail: string, fromImage: boolean): Route => ({
  methods: POST,
  tail,
  as: "run",
  handle: (bench, exchange, upload) => paint(bench, exchange, upload, fromImage),
});

const listing = (tail: string, list: (bench: Bench) => unknown): Route => ({
  methods: GET,
  tail,
  as: "read",
  handle: (bench, exchange) => sendJson(exchange, 200, list(bench)),
});

export const WEBUI_ROUTES: readonly Route[] = [
  painting("/sdapi/v1/txt2img", false),
  painting("/sdapi/v1/img2img", true),
  { methods: GET, tail: "/sdapi/v1/progress", as: "read", handle: readProgress },
  { methods: POST, tail: "/internal/progress", as: "read", handle: readTask },
  { methods: POST, tail: "/sdapi/v1/interrupt", as: "read", handle: interrupt },
  { methods: POST, tail: "/sdapi/v1/skip", as: "read", handle: interrupt },
  listing("/sdapi/v1/memory", (bench) => memoryOf(bench.sensors(), bench.works.length)),
  listing("/sdapi/v1/sd-models", () => MODELS),
  listing("/sdapi/v1/samplers", () => SAMPLERS),
  listing("/sdapi/v1/loras", () => LORAS),
  listing("/sdapi/v1/upscalers", () => UPSCALERS),
  { methods: ["GET", "POST"], tail: "/sdapi/v1/options", as: "read", handle: options },
];

async function paint(bench: Bench, exchange: Exchange, upload: Upload, fromImage: boolean): Promise<void> {
  const parsed = jsonObject(upload.body, exchange.req.headers["content-type"]);
  const outcome = parsed.ok ? parseSketch(parsed.value, fromImage) : { details: [parsed.detail] };
  if ("details" in outcome) return turnAway(bench, exchange, 422, outcome.details);
  const { generation } = outcome;
  if (!SAMPLERS.some(({ name }) => name === generation.sampler))
    return turnAway(bench, exchange, 400, "Sampler not found");
  const { sketch, seeds, task } = generation;
  const pixels = sketch.width * sketch.height * seeds.length;
  const ms = pictureMs(bench.service, sketch.steps, pixels, loadOf(exchange, upload));
  const seed = seeds[0] ?? 0;
  const plan = { ms, seed, prompt: sketch.prompt, task, sketch: sketchOf(generation, 0) };
  await perform(
    bench,
    exchange,
    plan,
    (gone) => drawAll(bench, generation, gone),
    (pngs, work) => {
      const images = spoiled(
        exchange,
        pngs.map((png) => png.toString("base64")),
      );
      const answer = {
        images,
        parameters: generation.echo,
        info: JSON.stringify(infoOf(generation, work.run.started_at)),
      };
      return { contentType: "application/json", body: Buffer.from(JSON.stringify(answer)) };
    },
  );
}

function drawAll(bench: Bench, generation: Generation, gone: AbortSignal): Promise<Buffer[]> {
  if (!generation.sendImages) return Promise.resolve([]);
  const init = generation.init ? { init: generation.init } : {};
  return Promise.all(
    generation.seeds.map((_, i) =>
      bench.workshop.make(
        {
          kind: "picture",
          sketch: sketchOf(generation, i),
          parameters: parametersOf(generation, i),
          ...init,
        },
        gone,
      ),
    ),
  );
}

/** Damages the images, as a card with broken memory does: the answer is well-formed but contains no valid picture. */
function spoiled({ fault }: Exchange, images: string[]): string[] {
  if (fault?.kind !== "bad_image") return images;
  if (fault.how === "none") return [];
  return images.map((image) => {
    if (fault.how === "cut") return image.slice(0, Math.floor(image.length / 8) * 4);
    return fault.how === "base64"
      ? `${image.slice(0, 40)}*not base64*`
      : Buffer.from(`not a picture ${image.slice(0, 64)}`).toString("base64");
  });
}

function interrupt(bench: Bench, exchange: Exchange): Promise<void> {
  for (const work of bench.works) work.interrupt();
  return sendJson(exchange, 200, {});
}

/** Accepts options and ignores them: no caller of a shared card should change what others get. */
function options(bench: Bench, exchange: Exchange, upload: Upload): Promise<void> {
  if (exchange.req.method === "GET") {
    return sendJson(exchange, 200, {
      sd_model_checkpoint: MODELS[0].title,
      samples_format: "png",
      CLIP_stop_at_last_layers: 1,
      return_grid: true,
      live_previews_enable: true,
    });
  }
  const parsed = jsonObject(upload.body, exchange.req.headers["content-type"]);
  return parsed.ok ? sendJson(exchange, 200, null) : turnAway(bench, exchange, 422, [parsed.detail]);
}
