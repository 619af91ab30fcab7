/** `/v1` with the official OpenAI client, unmodified: models and pictures. */
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { doorway, errorOf, expectOk, targetOf } from "../contract/doorway.ts";
import { answerImage, listOrigin, Origin, PNG } from "../contract/origin.ts";
import { more, openai, refused, sizeOf, SMALL } from "./client.ts";

const door = doorway({ services: { portrait: { defaults: {} } } });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "mine", { kind: "image", route: "/mine/sdapi/v1/" });
});
afterAll(() => origin.close());

const png = (base64: string | undefined): Buffer => Buffer.from(base64 ?? "", "base64");
const sent = (): Record<string, unknown> => JSON.parse(origin.taken().body.toString()) as Record<string, unknown>;
const picture = () => toFile(Buffer.from(PNG, "base64"), "picture.png", { type: "image/png" });

test("the list of models has the services that the key may use, and each can be retrieved by id", async () => {
  const { data } = await openai(door).models.list();
  expect(data.map(({ id }) => id).toSorted()).toEqual(["cosyvoice2", "mine", "portrait"]);
  for (const model of data) {
    expect(model).toMatchObject({ object: "model", owned_by: "portico" });
    expect(Math.abs(model.created - Date.now() / 1000)).toBeLessThan(120);
    expect(await openai(door).models.retrieve(model.id)).toEqual(model);
  }
  const narrow = openai(door, { apiKey: await door.key({ services: ["portrait"] }) });
  expect((await narrow.models.list()).data.map(({ id }) => id)).toEqual(["portrait"]);
  expect(await refused(narrow.models.retrieve("mine"))).toBeInstanceOf(OpenAI.PermissionDeniedError);
});

test("an unknown model gets 404 in OpenAI's words", async () => {
  const errors = await Promise.all([
    refused(openai(door).models.retrieve("nobody")),
    refused(openai(door).images.generate({ model: "nobody", prompt: "x" })),
    refused(openai(door).audio.speech.create({ model: "nobody", input: "x", voice: "alloy" })),
  ]);
  for (const error of errors) {
    expect(error).toBeInstanceOf(OpenAI.NotFoundError);
    expect(error.message).toContain("The model 'nobody' does not exist");
    expect(error).toMatchObject({ code: "not_found", param: "model" });
    expect(error.requestID).toMatch(/^req_/);
  }
});

test("a model of the wrong kind gets 400 that names `model`", async () => {
  const painted = await refused(openai(door).images.generate({ model: "cosyvoice2", prompt: "x" }));
  const spoken = await refused(openai(door).audio.speech.create({ model: "portrait", input: "x", voice: "alloy" }));
  for (const error of [painted, spoken]) {
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error.param).toBe("model");
  }
});

test("a picture comes both as a signed URL and in base64", async () => {
  const made = await openai(door).images.generate({ model: "portrait", prompt: "a lighthouse", n: 2, ...SMALL });
  expect(Math.abs(made.created - Date.now() / 1000)).toBeLessThan(60);
  expect(made.data).toHaveLength(2);
  for (const { url, b64_json } of made.data ?? []) {
    expect(sizeOf(png(b64_json))).toEqual({ width: 64, height: 64 });
    const fetched = expectOk(await door.ask(targetOf(url ?? ""), { key: null }));
    expect(fetched.header("content-type")).toBe("image/png");
    expect(fetched.body.equals(png(b64_json))).toBe(true);
  }
});

test("a hit has an Age header in every dialect", async () => {
  const made = { prompt: `age ${Date.now()}`, seed: 7, steps: 1 };
  const openaiCall = () =>
    door.ask("/v1/images/generations", { json: { ...made, model: "portrait", size: "64x64", n: 1 } });
  const falCall = () => door.ask("/fal/run/portico/portrait", { json: { ...made, width: 64, height: 64 } });
  for (const call of [openaiCall, falCall]) {
    expect(expectOk(await call()).header("age")).toBeNull();
    const hit = expectOk(await call());
    expect(hit.header("cache-status")).toMatch(/^portico; hit/);
    expect(hit.header("age")).toMatch(/^\d+$/);
  }
});

test("`response_format` selects one of the two", async () => {
  const asked = { model: "portrait", prompt: "a pier", ...SMALL };
  const url = await openai(door).images.generate({ ...asked, response_format: "url" });
  expect(Object.keys(url.data?.[0] ?? {})).toEqual(["url"]);
  const base64 = await openai(door).images.generate({ ...asked, response_format: "b64_json" });
  expect(Object.keys(base64.data?.[0] ?? {})).toEqual(["b64_json"]);
});

test("the URL of a picture that must not be stored is a data URL", async () => {
  const made = await openai(door).images.generate(
    { model: "portrait", prompt: "x", response_format: "url", ...SMALL },
    { headers: { "cache-control": "no-store" } },
  );
  expect(made.data?.[0]?.url).toMatch(/^data:image\/png;base64,/);
});

test("without a model the oldest service that generates images is used", async () => {
  const made = await openai(door).images.generate({ prompt: "a quay", ...SMALL });
  expect(made.data).toHaveLength(1);
  expect(origin.seen).toHaveLength(0);
});

test("the dialect's fields reach the origin under its names, and the origin's own fields unchanged", async () => {
  const body = more(
    {
      model: "mine",
      prompt: "a mole",
      n: 3,
      size: "512x768" as const,
      quality: "high" as const,
      style: "vivid" as const,
      background: "opaque" as const,
      moderation: "low" as const,
      user: "somebody",
      output_format: "png" as const,
      response_format: null,
    },
    { seed: 7, negative_prompt: "fog", steps: 4, cfg_scale: 5, sampler_name: "Euler" },
  );
  await openai(door, { organization: "org", project: "proj" }).images.generate(body);
  const seen = origin.seen[0];
  expect(seen?.target).toBe("/mine/sdapi/v1/txt2img");
  const names = seen?.headers.map(([name]) => name.toLowerCase()) ?? [];
  expect(names.filter((name) => /^(openai|x-stainless|authorization|user-agent)/.test(name))).toEqual([]);
  expect(sent()).toEqual({
    prompt: "a mole",
    batch_size: 3,
    width: 512,
    height: 768,
    seed: 7,
    negative_prompt: "fog",
    steps: 4,
    cfg_scale: 5,
    sampler_name: "Euler",
  });
  await openai(door).images.generate({ model: "mine", prompt: "x", size: "auto" });
  expect(sent()).toEqual({ prompt: "x" });
});

test("with a seed the second picture is a hit, also on the service's own route", async () => {
  const asked = more({ model: "portrait", prompt: "a buoy", ...SMALL, n: 1 }, { seed: 11 });
  const first = await openai(door).images.generate(asked);
  const { data: second, response } = await openai(door).images.generate(asked).withResponse();
  expect(response.headers.get("cache-status")).toMatch(/^portico; hit/);
  expect(response.headers.get("link")).toContain('rel="enclosure"');
  expect(second.data?.[0]?.b64_json).toBe(first.data?.[0]?.b64_json);
  const native = await door.ask("/sdapi/v1/txt2img", {
    json: { prompt: "a buoy", width: 64, height: 64, steps: 1, batch_size: 1, seed: 11 },
  });
  expect(native.header("cache-status")).toMatch(/^portico; hit/);
});

test.each([
  ["n", { n: 9 }],
  ["size", { size: "4096x64" }],
  ["size", { size: "large" }],
  ["size", { size: "0x64" }],
  ["prompt", { prompt: 5 }],
  ["prompt", { prompt: null }],
  ["steps", { steps: 200 }],
  ["output_format", { output_format: "webp" }],
  ["output_format", { output_format: "svg" }],
  ["response_format", { response_format: "gif" }],
  ["partial_images", { stream: true, partial_images: 4 }],
  ["override_settings", { override_settings: { sd_model_checkpoint: "other" } }],
])("400 names the dialect's own field: %s in %j", async (param, fields) => {
  const error = await refused(
    openai(door).images.generate(
      more({ model: "portrait", prompt: "x" }, fields) as OpenAI.ImageGenerateParamsNonStreaming,
    ),
  );
  expect(error).toBeInstanceOf(OpenAI.BadRequestError);
  expect(error).toMatchObject({ param, code: "invalid_request", type: "invalid_request_error" });
});

test("an origin's refusal is the client's typed error, with the origin's message and the dialect's field", async () => {
  const fields = { model: "portrait", prompt: "x", ...SMALL };
  const unknown = await refused(openai(door).images.generate(more(fields, { sampler_name: "none such" })));
  expect(unknown).toBeInstanceOf(OpenAI.BadRequestError);
  expect(unknown.message).toContain("Sampler not found");
  const wrong = await refused(openai(door).images.generate(more(fields, { cfg_scale: "much" })));
  expect(wrong).toBeInstanceOf(OpenAI.UnprocessableEntityError);
  expect(wrong.param).toBe("cfg_scale");
});

test("an origin may answer with the picture itself", async () => {
  origin.answering = (res) => res.setHeader("content-type", "image/png").end(Buffer.from(PNG, "base64"));
  const made = await openai(door).images.generate({ model: "mine", prompt: "x" });
  expect(made.data).toMatchObject([{ b64_json: PNG, url: expect.stringContaining("/v1/results/") as string }]);
  origin.answering = answerImage;
  origin.taken();
});

test("an edit is an img2img with the picture and its mask, inverted for the origin", async () => {
  const made = await openai(door).images.edit(
    more(
      { model: "mine", image: await picture(), mask: await picture(), prompt: "12", n: 2 },
      { seed: 5, strength: 0.4 },
    ),
  );
  expect(made.data?.[0]?.b64_json).toBe(PNG);
  expect(origin.seen[0]?.target).toBe("/mine/sdapi/v1/img2img");
  expect(sent()).toEqual({
    prompt: "12",
    batch_size: 2,
    init_images: [PNG],
    mask: PNG,
    inpainting_mask_invert: 1,
    seed: 5,
    denoising_strength: 0.4,
  });
});

test("an edit and a variation of a real picture return a picture", async () => {
  const first = await openai(door).images.generate({ model: "portrait", prompt: "a cape", ...SMALL });
  const image = () => toFile(png(first.data?.[0]?.b64_json), "cape.png", { type: "image/png" });
  const edited = await openai(door).images.edit({
    model: "portrait",
    image: [await image()],
    prompt: "at night",
    size: "64x64",
  });
  expect(sizeOf(png(edited.data?.[0]?.b64_json))).toEqual({ width: 64, height: 64 });
  const form = new FormData();
  form.append("image", new Blob([new Uint8Array(png(first.data?.[0]?.b64_json))]), "cape.png");
  form.append("model", "portrait");
  form.append("size", "64x64");
  const varied = await fetch(`${door.portico.url}/v1/images/variations`, {
    method: "POST",
    headers: { authorization: `Bearer ${door.ownKey}` },
    body: form,
  });
  expect(varied.status).toBe(200);
  expect((await varied.json()) as object).toMatchObject({ data: [{ b64_json: expect.any(String) as string }] });
});

test.each([
  ["image", "no picture", []],
  ["image", "two of them, where the origin takes one", [PNG, PNG]],
  ["image", "what is none", [Buffer.from("not a picture at all").toString("base64")]],
])("an edit is refused for %s: %s", async (param, _, images) => {
  const form = new FormData();
  form.append("prompt", "x");
  form.append("model", "mine");
  for (const each of images) form.append("image[]", new Blob([new Uint8Array(png(each))]), "picture.png");
  const answer = await door.ask("/v1/images/edits", await formOf(form));
  expect(answer.status).toBe(400);
  expect(errorOf(answer).param).toBe(param);
});

test("a form of more than 8 MiB gets 413, and a body that is not a form gets 415", async () => {
  // Only declared, not sent: a client that is still sending does not see the refusal.
  const { body, headers } = await formOf(new FormData());
  const large = { ...headers, "content-length": String(9 * 1024 * 1024) };
  expect((await door.ask("/v1/images/edits", { body, headers: large })).status).toBe(413);
  expect((await door.ask("/v1/images/edits", { json: { prompt: "x" } })).status).toBe(415);
  expect((await door.ask("/v1/images/generations", { body: "prompt=x" })).status).toBe(415);
});

test("another method gets 405", async () => {
  for (const path of ["images/generations", "images/edits", "images/variations", "audio/speech"]) {
    const answer = await door.ask(`/v1/${path}`, { method: "GET" });
    expect([answer.status, answer.header("allow")]).toEqual([405, "POST"]);
  }
  expect((await door.ask("/v1/models", { method: "POST", json: {} })).status).toBe(405);
});

test("a key without the scope is a PermissionDeniedError, and a wrong key is an AuthenticationError", async () => {
  const narrow = openai(door, { apiKey: await door.key({ scopes: ["results"] }) });
  expect(await refused(narrow.models.list())).toBeInstanceOf(OpenAI.PermissionDeniedError);
  expect(await refused(openai(door, { apiKey: "wrong" }).models.list())).toBeInstanceOf(OpenAI.AuthenticationError);
});

async function formOf(form: FormData): Promise<{ body: Buffer; headers: Record<string, string> }> {
  const whole = new Response(form);
  return {
    body: Buffer.from(await whole.arrayBuffer()),
    headers: { "content-type": whole.headers.get("content-type") ?? "" },
  };
}
