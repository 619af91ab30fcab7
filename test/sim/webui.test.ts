import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { readPng } from "./png.ts";
import { ask, must, pause, until } from "./wire.ts";
import type { Reply } from "./wire.ts";

interface Answer {
  readonly images: readonly string[];
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly info: string;
}
interface Info {
  readonly seed: number;
  readonly all_seeds: readonly number[];
  readonly infotexts: readonly string[];
  readonly width: number;
  readonly height: number;
  readonly steps: number;
}

let park: Park;
let origin: string;
beforeAll(async () => {
  park = await startPark({ servers: 1, gpus: 1, service: { speed: 0 } });
  origin = must(park.cards[0]).origin;
});
beforeEach(() => {
  park.setService({ speed: 0, service_ms: null });
  park.reset();
});
afterAll(() => park.close());

const SMALL = { prompt: "sea at dawn", width: 80, height: 48, steps: 4, seed: 42 };

function paint(json: unknown, path = "/sdapi/v1/txt2img"): Promise<Reply> {
  return ask(origin, { path, json });
}
function parsed(reply: Reply): unknown {
  return JSON.parse(reply.body.toString());
}
function fieldsOf(reply: Reply): Readonly<Record<string, unknown>> {
  const fields: Readonly<Record<string, unknown>> = JSON.parse(reply.body.toString());
  return fields;
}
function answerOf(reply: Reply): Answer {
  const answer: Answer = JSON.parse(reply.body.toString());
  return answer;
}
function pictures(reply: Reply): Buffer[] {
  return answerOf(reply).images.map((image) => Buffer.from(image, "base64"));
}
function infoOf(reply: Reply): Info {
  const info: Info = JSON.parse(answerOf(reply).info);
  return info;
}

describe("txt2img", () => {
  it("returns a PNG of the requested size, with parameters in the WebUI's format", async () => {
    const reply = await paint({
      ...SMALL,
      negative_prompt: "blur",
      sampler_name: "Euler a",
      cfg_scale: 6.5,
    });
    expect(reply).toMatchObject({ status: 200, whole: true });
    const png = readPng(must(pictures(reply)[0]));
    expect(png).toMatchObject({ width: 80, height: 48 });
    const text =
      "sea at dawn\nNegative prompt: blur\nSteps: 4, Sampler: Euler a, CFG scale: 6.5, Seed: 42, Size: 80x48, Model hash: 5f1a9c03b7, Model: portico-painter";
    expect(png.texts).toEqual([{ type: "tEXt", keyword: "parameters", text }]);
    expect(infoOf(reply)).toMatchObject({
      seed: 42,
      all_seeds: [42],
      infotexts: [text],
      width: 80,
      height: 48,
      steps: 4,
    });
    expect(answerOf(reply).parameters).toMatchObject({
      prompt: "sea at dawn",
      steps: 4,
      batch_size: 1,
    });
  });

  it("returns the same bytes for the same request, and picks a new seed if none is given", async () => {
    const [a, b] = await Promise.all([paint(SMALL), paint(SMALL)]);
    expect(pictures(a)).toEqual(pictures(b));
    const { seed: _, ...unseeded } = SMALL;
    const seeds = await Promise.all(
      [paint(unseeded), paint({ ...SMALL, seed: -1 })].map(async (reply) => infoOf(await reply).seed),
    );
    expect(seeds.every((seed) => Number.isInteger(seed) && seed >= 0)).toBe(true);
    expect(seeds[0]).not.toBe(seeds[1]);
  });

  it("increases the seed through a batch, and returns no images for send_images: false", async () => {
    const reply = await paint({ ...SMALL, batch_size: 2, n_iter: 2 });
    expect(infoOf(reply).all_seeds).toEqual([42, 43, 44, 45]);
    expect(pictures(reply).map((png) => /Seed: (\d+)/.exec(must(readPng(png).texts[0]).text)?.[1])).toEqual([
      "42",
      "43",
      "44",
      "45",
    ]);
    expect(pictures(await paint({ ...SMALL, send_images: false }))).toEqual([]);
  });

  it("varies an image toward that of the subseed, or of a new one if none is given", async () => {
    const varied = { ...SMALL, subseed_strength: "0.5" };
    const [plain, ...some] = await Promise.all([
      paint({ ...SMALL, subseed: 9 }),
      paint({ ...varied, subseed: 7, batch_size: 2 }),
      paint({ ...varied, subseed: 7, batch_size: 2 }),
      paint({ ...varied, subseed: 8 }),
    ]);
    expect(pictures(plain)).toEqual(pictures(await paint(SMALL)));
    const [one, same, other] = some.map(pictures);
    expect(one).toEqual(same);
    expect(one?.[0]).not.toEqual(other?.[0]);
    expect(one?.[1]).not.toEqual(one?.[0]);
    expect(infoOf(must(some[0]))).toMatchObject({ all_seeds: [42, 42], all_subseeds: [7, 8], subseed_strength: 0.5 });
    const [a, b] = await Promise.all([paint(varied), paint({ ...varied, subseed: -1 })]);
    expect(pictures(a)).not.toEqual(pictures(b));
    expect(readPng(must(pictures(a)[0])).texts[0]?.text).toMatch(/Variation seed: \d+, Variation seed strength: 0.5/);
  });

  it("uses the WebUI's defaults", async () => {
    expect(infoOf(await paint({ prompt: "x" }))).toMatchObject({
      width: 512,
      height: 512,
      steps: 20,
    });
  });

  it.each([
    [{ ...SMALL, width: 0 }, ["body", "width"]],
    [{ ...SMALL, height: 4097 }, ["body", "height"]],
    [{ ...SMALL, steps: "many" }, ["body", "steps"]],
    [{ ...SMALL, seed: 1.5 }, ["body", "seed"]],
    [{ ...SMALL, prompt: 7 }, ["body", "prompt"]],
    [[SMALL], ["body"]],
  ])("answers invalid input with 422 and its location, and starts no run: %j", async (json, loc) => {
    const reply = await paint(json);
    expect(reply.status).toBe(422);
    expect(parsed(reply)).toEqual({ detail: [{ loc, msg: expect.any(String), type: expect.any(String) }] });
    expect(park.counts()).toMatchObject({ starts: 0, refused: 1 });
  });

  it("accepts only a valid JSON body that is declared as JSON", async () => {
    for (const [type, body] of [
      ["text/plain", "{}"],
      ["application/json", "{"],
      ["application/json", "\ufeff{}"],
    ] as const) {
      expect(
        (
          await ask(origin, {
            path: "/sdapi/v1/txt2img",
            headers: { "content-type": type },
            body: Buffer.from(body),
          })
        ).status,
      ).toBe(422);
    }
  });

  it("refuses an unknown sampler with 400", async () => {
    expect(await paint({ ...SMALL, sampler_name: "Nonesuch" })).toMatchObject({ status: 400 });
    expect(park.counts().starts).toBe(0);
  });
});

describe("img2img", () => {
  it("starts from the caller's image", async () => {
    const init = must(pictures(await paint({ ...SMALL, prompt: "flame" }))[0]).toString("base64");
    const strong = await paint(
      { ...SMALL, init_images: [`data:image/png;base64,${init}`], denoising_strength: 1 },
      "/sdapi/v1/img2img",
    );
    const weak = await paint({ ...SMALL, init_images: [init], denoising_strength: 0.2 }, "/sdapi/v1/img2img");
    expect([strong.status, weak.status]).toEqual([200, 200]);
    const pixels = (reply: Reply): Uint8Array => readPng(must(pictures(reply)[0])).pixels;
    expect(pixels(weak)).not.toEqual(pixels(strong));
    expect(must(readPng(must(pictures(weak)[0])).texts[0]).text).toContain("Denoising strength: 0.2");
    expect(answerOf(weak).parameters["init_images"]).toBeNull();
  });

  it.each([[{}], [{ init_images: [] }], [{ init_images: ["bm90IGFuIGltYWdl"] }], [{ init_images: "x" }]])(
    "refuses missing or invalid images: %j",
    async (init) => {
      expect((await paint({ ...SMALL, ...init }, "/sdapi/v1/img2img")).status).toBe(422);
    },
  );
});

describe("the card's other paths", () => {
  it("answer after any path prefix, and with 404 or 405 elsewhere", async () => {
    expect((await paint(SMALL, "/some/origin.path/sdapi/v1/txt2img?x=1")).status).toBe(200);
    for (const path of [
      "/",
      "/sdapi/v1/nothing",
      "/..//sdapi/v1/txt2img",
      "/a/../sdapi/v1/txt2img",
      "//sdapi/v1/txt2img",
    ]) {
      const reply = await paint(SMALL, path);
      expect([path, reply.status, reply.body.toString()]).toEqual([path, 404, '{"detail":"Not Found"}']);
    }
    const wrong = await ask(origin, { method: "GET", path: "/sdapi/v1/txt2img" });
    expect([wrong.status, wrong.head.includes("allow: POST")]).toEqual([405, true]);
  });

  it.each(["sd-models", "samplers", "loras", "upscalers", "options", "memory"])("include %s", async (name) => {
    const reply = await ask(origin, { method: "GET", path: `/sdapi/v1/${name}` });
    expect([reply.status, typeof parsed(reply)]).toEqual([200, "object"]);
  });

  it("report progress, a preview and the task while a picture is made", async () => {
    park.setService({ service_ms: 500 });
    const running = paint({ ...SMALL, force_task_id: "mine" });
    await until(() => park.counts().running === 1);
    await pause(200);
    const progress = fieldsOf(await ask(origin, { method: "GET", path: "/sdapi/v1/progress" }));
    expect(progress["progress"]).toBeGreaterThan(0.3);
    expect(progress["eta_relative"]).toBeLessThan(0.35);
    expect(progress["state"]).toMatchObject({ job_count: 1, sampling_steps: 4 });
    const preview = readPng(Buffer.from(String(progress["current_image"]), "base64"));
    expect([preview.width, preview.height]).toEqual([80, 48]);
    const task = (id: string): Promise<Reply> => ask(origin, { path: "/internal/progress", json: { id_task: id } });
    expect(parsed(await task("mine"))).toMatchObject({ active: true, completed: false });
    await running;
    expect(parsed(await task("mine"))).toMatchObject({ active: false, completed: true });
    expect(parsed(await task("other"))).toMatchObject({ active: false, completed: false });
    expect(parsed(await ask(origin, { method: "GET", path: "/sdapi/v1/progress" }))).toMatchObject({
      progress: 0,
      current_image: null,
      state: { job_count: 0 },
    });
  });

  it("interrupt all runs on the card, which still return their pictures", async () => {
    park.setService({ service_ms: 5_000 });
    const running = [paint(SMALL), paint({ ...SMALL, seed: 7 })];
    await until(() => park.counts().running === 2);
    await ask(origin, { path: "/sdapi/v1/interrupt" });
    for (const reply of await Promise.all(running)) expect(readPng(must(pictures(reply)[0])).width).toBe(80);
    expect(park.counts()).toMatchObject({ running: 0, done: 2 });
  });
});

describe("the service time", () => {
  it("follows steps and pixels, has jitter that depends only on the body, and can be fixed", async () => {
    // Each picture is drawn once before, so that only the service time is measured; timers only lag, so take the
    // minimum.
    const ms = async (json: unknown): Promise<number> => {
      await paint(json);
      park.reset();
      for (let turn = 0; turn < 4; turn++) await paint(json);
      return Math.min(...park.runs().map((run) => must(run.ended_at) - run.started_at));
    };
    park.setService({ speed: 0.5 });
    const base = await ms({ ...SMALL, width: 512, height: 512, steps: 4 });
    const twice = await ms({ ...SMALL, width: 512, height: 512, steps: 8 });
    expect(base).toBeGreaterThan(0.5 * (100 + 137) - 2);
    expect(twice - base).toBeGreaterThan(45);
    park.setService({ service_ms: 80, jitter: 0.5 });
    const [a, again] = [await ms(SMALL), await ms(SMALL)];
    const others = [];
    for (let seed = 0; seed < 6; seed++) others.push(await ms({ ...SMALL, seed }));
    park.setService({ jitter: 0 });
    expect(Math.abs(a - again)).toBeLessThan(25);
    expect(Math.min(...others)).toBeGreaterThan(37);
    expect(Math.max(...others) - Math.min(...others)).toBeGreaterThan(30);
    expect(await ms(SMALL)).toBeGreaterThan(77);
  });
});
