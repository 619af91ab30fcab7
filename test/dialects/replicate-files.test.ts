/** Files of the Replicate dialect: uploaded by the official client and given to origins without a network fetch. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import { answerImage, listOrigin, Origin, PNG, type Seen, valuesOf } from "../contract/origin.ts";
import { refused, replicate } from "./replicate-client.ts";

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "paint", { kind: "image", route: "/paint/" });
  await listOrigin(door, origin, "clone", {
    kind: "tts",
    route: "/clone/",
    dialects: {
      run: {
        path: "inference_zero_shot",
        body: "multipart",
        fields: [{ from: "text", to: "tts_text" }],
        fixed: {},
        results: null,
        formats: ["wav"],
      },
    },
  });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

const PIXELS = Buffer.from(PNG, "base64");
const FORM = { "content-type": "multipart/form-data; boundary=b" };
const part = (head: string, body: string) => `--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n${body}\r\n`;

function onlyOf([first, ...more]: Seen[]): Seen {
  if (first === undefined || more.length > 0) throw new Error("not exactly one");
  return first;
}

/** The only run that an origin has begun. */
const ran = (): Seen => {
  const runs = origin.seen.splice(0).filter(({ target }) => !target.includes("progress"));
  return onlyOf(runs);
};
const json = ({ body }: Seen) => JSON.parse(body.toString()) as Record<string, unknown>;

test("a file is returned as uploaded, is kept for a day, belongs to its tenant and can be deleted", async () => {
  const { files } = replicate(door);
  const before = Date.now();
  const blob = new File([PIXELS], "Küste.png", { type: "image/png" });
  const made = await files.create(blob, { from: "a walk" });
  expect(made).toMatchObject({
    name: "Küste.png",
    content_type: "image/png",
    size: PIXELS.length,
    metadata: { from: "a walk" },
    urls: { get: `${door.portico.url}/replicate/v1/files/${made.id}` },
  });
  expect(made.checksums.sha256).toMatch(/^[0-9a-f]{64}$/);
  const life = new Date(made.expires_at ?? 0).getTime() - before;
  expect(Math.abs(life - 86_400_000)).toBeLessThan(60_000);
  expect(await files.get(made.id)).toEqual(made);
  const { files: others } = replicate(door, { auth: await door.key() });
  expect((await refused(others.get(made.id))).error.response.status).toBe(404);
  expect(await others.delete(made.id).catch(() => "refused")).toBe("refused");
  expect(await files.delete(made.id)).toBe(true);
  expect((await refused(files.get(made.id))).problem).toMatchObject({ title: "Not found", status: 404 });
});

test("a Buffer in the input reaches the origin as base64, through the task that takes pictures", async () => {
  const input = { prompt: "the same at night", image: PIXELS, strength: 0.5 };
  const output = (await replicate(door).run("portico/paint", { input })) as string[];
  expect(output).toHaveLength(1);
  const seen = ran();
  expect(seen.target).toBe("/paint/img2img");
  expect(json(seen)).toMatchObject({ prompt: "the same at night", init_images: [PNG], denoising_strength: 0.5 });
});

test("a file can be used in the origin's own fields, and twice in one input", async () => {
  const client = replicate(door);
  const { urls } = await client.files.create(PIXELS);
  const { status, input } = await client.predictions.create({
    model: "portico/paint",
    input: { prompt: "x", init_images: [urls.get], mask: urls.get },
    wait: true,
  });
  expect(status).toBe("succeeded");
  expect(input).toEqual({ prompt: "x", init_images: [urls.get], mask: urls.get });
  expect(json(ran())).toMatchObject({ init_images: [`data:image/png;base64,${PNG}`], mask: PNG });
});

test("signed URLs of results can be used as files by the tenant that made them, and by no other tenant", async () => {
  const client = replicate(door);
  const made = await client.predictions.create({ model: "portico/paint", input: { prompt: "x" }, wait: true });
  const [url = ""] = made.output as string[];
  expect(url).toContain("/v1/results/");
  origin.seen.length = 0;
  const inputs = [{ image: url }, { init_images: [url] }];
  for (const input of inputs) {
    await client.predictions.create({ model: "portico/paint", input: { prompt: "again", ...input }, wait: true });
    const { init_images: given } = json(ran()) as { init_images: string[] };
    expect(given.map((each) => each.replace(/^data:image\/png;base64,/, ""))).toEqual([PNG]);
  }
  const stranger = replicate(door, { auth: await door.key() });
  const { problem } = await refused(stranger.run("portico/paint", { input: { prompt: "x", init_images: [url] } }));
  expect(problem.invalid_fields).toMatchObject([{ field: "input.init_images" }]);
  expect(origin.seen).toEqual([]);
});

test("data URLs are passed on to the origin", async () => {
  await replicate(door).run("portico/paint", { input: { prompt: "x", image: `data:image/png;base64,${PNG}` } });
  expect(json(ran())).toMatchObject({ init_images: [PNG] });
});

test("a client that sends its own key as input is refused, and no origin receives the key", async () => {
  // This version of the client adds its key to every input if it encodes files itself.
  const client = replicate(door, { fileEncodingStrategy: "data-uri" });
  const { problem } = await refused(client.run("portico/paint", { input: { prompt: "x", image: PIXELS } }));
  expect(problem).toMatchObject({ status: 400, invalid_fields: [{ field: "input.auth" }] });
  expect(JSON.stringify(problem)).not.toContain(door.ownKey);
  expect(origin.seen).toEqual([]);
});

test("an origin that takes a form gets the file itself", async () => {
  const input = { text: "hello", prompt_wav: Buffer.from("RIFF of a voice") };
  await replicate(door).predictions.create({ model: "portico/clone", input, wait: 20 });
  const seen = onlyOf(origin.seen);
  expect(seen.target).toBe("/clone/inference_zero_shot");
  const form = await new Response(Uint8Array.from(seen.body), {
    headers: { "content-type": valuesOf(seen, "content-type").join() },
  }).formData();
  expect(form.get("tts_text")).toBe("hello");
  expect(await (form.get("prompt_wav") as File).text()).toBe("RIFF of a voice");
});

test("other URLs and missing files are refused, and no URL is fetched", async () => {
  const client = replicate(door);
  const paint = (image: string) => client.run("portico/paint", { input: { prompt: "x", image } });
  const { problem } = await refused(paint("http://127.0.0.1:9/secret.png"));
  expect(problem).toMatchObject({
    title: "Input validation failed",
    status: 400,
    invalid_fields: [
      { field: "input.image", description: "input.image: must not be a URL: this service allows only data: URLs here" },
    ],
  });
  const other = await replicate(door, { auth: await door.key() }).files.create(PIXELS);
  const { problem: notOwn } = await refused(paint(other.urls.get));
  expect(notOwn.invalid_fields?.[0]?.description).toMatch(/^input\.image: names a file that does not exist/);
  const { problem: noFile } = await refused(paint(`${door.portico.url}/replicate/v1/files/../v1/jobs`));
  expect(noFile.invalid_fields?.[0]?.description).toMatch(/^input\.image: must not be a URL/);
  expect(origin.seen).toEqual([]);
});

test("an upload that is not a file or is too large is refused with the field at fault", async () => {
  const target = "/replicate/v1/files";
  const sent = (body: string) => door.ask(target, { body: `${body}--b--\r\n`, headers: FORM });
  const file = part('name="content"; filename="x"', "x");
  const answers = [
    await sent(part('name="content"', "x")),
    await sent(file + part('name="metadata"', "[1]")),
    await sent(file + part('name="metadata"', JSON.stringify({ long: "x".repeat(1000) }))),
    await door.ask(target, { json: {} }),
    // Only the length is announced: a client that is still sending would not see the refusal.
    await door.ask(target, { body: file, headers: { ...FORM, "content-length": String(9 * 1024 * 1024) } }),
  ];
  expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 415, 413]);
  const fields = answers.slice(0, 3).map(({ text }) => JSON.parse(text).invalid_fields[0].field);
  expect(fields).toEqual(["content", "metadata", "metadata"]);
});

const idIn = ({ text }: { text: string }) => (JSON.parse(text) as { id: string }).id;

test("a file sent twice with one Idempotency-Key is one file until it is deleted", async () => {
  const send = (content: string, boundary: string) => {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="content"; filename="a.txt"\r\n\r\n`;
    return door.ask("/replicate/v1/files", {
      method: "POST",
      body: `${head}${content}\r\n--${boundary}--\r\n`,
      headers: { "content-type": `multipart/form-data; boundary=${boundary}`, "idempotency-key": "a file" },
    });
  };
  const first = await send("words", "one");
  expect([first.status, first.header("idempotent-replayed")]).toEqual([201, null]);
  const again = await send("words", "two");
  expect([again.status, again.header("idempotent-replayed"), idIn(again)]).toEqual([201, "true", idIn(first)]);
  expect((await send("other words", "three")).status).toBe(422);
  await door.ask(`/replicate/v1/files/${idIn(first)}`, { method: "DELETE" });
  const anew = await send("words", "four");
  expect([anew.status, anew.header("idempotent-replayed"), idIn(anew) === idIn(first)]).toEqual([201, null, false]);
});
