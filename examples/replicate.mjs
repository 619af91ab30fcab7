/**
 * Predictions on your own cards with Replicate's unmodified client. While `npm start` is running:
 *
 *   node examples/replicate.mjs
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Replicate from "replicate";

const folder = process.env["STATE_DIR"] || ".portico";
const { url, api_key } = JSON.parse(await readFile(join(folder, "dev.json"), "utf8"));
const replicate = new Replicate({ auth: api_key, baseUrl: `${url}/replicate/v1` });

const input = { prompt: "a lighthouse on a cliff at dusk", width: 512, height: 512, seed: 7 };
const [picture] = await replicate.run("portico/portrait", { input });
console.log("picture:", String(picture));

const bytes = Buffer.from(await (await fetch(String(picture))).arrayBuffer());
const [night] = await replicate.run("portico/portrait", {
  // The client uploads a Buffer as a file; it reaches the card as data.
  input: { ...input, prompt: "the same at night", image: bytes, strength: 0.5 },
});
console.log("at night:", String(night));

for await (const { event, data } of replicate.stream("portico/portrait", { input: { ...input, seed: 8, steps: 40 } }))
  console.log("event:", event, data);

const { output: spoken } = await replicate.predictions.create({
  model: "portico/cosyvoice2",
  input: { text: "The tide is in." },
  wait: true,
});
await writeFile(join(folder, "tide-in.wav"), Buffer.from(await (await fetch(spoken)).arrayBuffer()));
console.log("sound:", join(folder, "tide-in.wav"));

try {
  await replicate.run("portico/nobody", { input });
} catch (error) {
  console.log("refused:", error.response.status, error.message);
}
