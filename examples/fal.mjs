/**
 * Pictures and speech from your own cards with fal's unmodified client. While `npm start` is running:
 *
 *   node examples/fal.mjs
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createFalClient } from "@fal-ai/client";

const folder = process.env["STATE_DIR"] || ".portico";
const { url, api_key } = JSON.parse(await readFile(join(folder, "dev.json"), "utf8"));
const fal = createFalClient({ credentials: api_key, proxyUrl: { url: `${url}/fal/proxy`, when: "always" } });

const { data } = await fal.run("portico/portrait", {
  input: { prompt: "a lighthouse on a cliff at dusk", image_size: "square", seed: 7 },
});
console.log("picture:", data.images[0].url);

// Queued: the job continues even if this program ends.
const queued = await fal.subscribe("portico/portrait", {
  input: { prompt: "a harbour in the rain", image_size: { width: 640, height: 384 } },
  onQueueUpdate: ({ status }) => console.log("state:", status),
});
console.log("picture:", queued.data.images[0].url, "of", queued.requestId);

// The client uploads files in the input by itself.
const lighthouse = await (await fetch(data.images[0].url)).blob();
const edited = await fal.run("portico/portrait", {
  input: { prompt: "the same in winter", image_url: lighthouse, image_size: "square", strength: 0.6 },
});
console.log("edited:", edited.data.images[0].url);

const sound = await fal.stream("portico/cosyvoice2", {
  input: { text: "The tide is in, and the boats are going out." },
});
const pieces = [];
for await (const piece of sound) pieces.push(piece);
await writeFile(join(folder, "boats.wav"), Buffer.concat(pieces));
console.log("sound:", join(folder, "boats.wav"));

try {
  await fal.run("portico/nobody", { input: { prompt: "x" } });
} catch (error) {
  console.log("refused:", error.status, error.message);
}
