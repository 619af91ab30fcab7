/**
 * Pictures and speech from your own cards with OpenAI's unmodified client. While `npm start` is running:
 *
 *   node examples/openai.mjs
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import OpenAI from "openai";

const folder = process.env["STATE_DIR"] || ".portico";
const { url, api_key } = JSON.parse(await readFile(join(folder, "dev.json"), "utf8"));
const client = new OpenAI({ apiKey: api_key, baseURL: `${url}/v1` });

const models = await client.models.list();
console.log("models:", models.data.map(({ id }) => id).join(", "));

const { data } = await client.images.generate({
  model: "portrait",
  prompt: "a lighthouse on a cliff at dusk",
  size: "512x512",
  // The origin's own fields are passed on. With a seed, the same request is a cache hit the next time.
  seed: 7,
});
console.log("picture:", data[0].url);

const stream = await client.images.generate({
  model: "portrait",
  prompt: "a harbour in the rain",
  size: "768x768",
  stream: true,
});
for await (const event of stream) {
  const name = event.type === "image_generation.completed" ? "harbour.png" : `harbour-${event.partial_image_index}.png`;
  await writeFile(join(folder, name), Buffer.from(event.b64_json, "base64"));
  console.log("event:", event.type, "->", join(folder, name));
}

const speech = await client.audio.speech.create({
  model: "cosyvoice2",
  voice: "default",
  input: "The tide is in, and the boats are going out.",
  response_format: "wav",
});
await writeFile(join(folder, "tide.wav"), Buffer.from(await speech.arrayBuffer()));
console.log("sound:", join(folder, "tide.wav"));

try {
  await client.images.generate({ model: "nobody", prompt: "x" });
} catch (error) {
  console.log("refused:", error.status, error.message);
}
