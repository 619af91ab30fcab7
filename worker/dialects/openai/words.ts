/** The fields of the OpenAI dialect's calls, and which of them concern only the dialect. Pure. */
import { z } from "zod";
import { charactersOf } from "../../services/rules.ts";
import { detail, wrong } from "../../details.ts";
import type { Given, Task } from "../mapping.ts";

const INPUT_CHARACTERS_MAX = 4096;

const text = () => z.string();
const model = z.string().max(200).nullish().meta({
  description: "A service's id. Default: the oldest service that the key may use and that supports this call.",
});
const count = z.int().min(1).max(1000).nullish();
const size = z
  .string()
  .regex(/^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$/, wrong("size"))
  .nullish();

const picture = {
  model,
  n: count,
  size,
  response_format: z.enum(["url", "b64_json"]).nullish().meta({ description: "Default: the answer contains both." }),
  output_format: z
    .enum(["png", "jpeg", "webp"])
    .nullish()
    .meta({ description: "One of the formats that the origin can return." }),
  stream: z.boolean().nullish(),
  partial_images: z.int().min(0).max(3).nullish().meta({ description: "Number of previews in a stream. Default 3." }),
};

const OWN = "Other fields are passed to the origin unchanged; the service's `bounds` and `forbid` apply.";

export const GenerationBody = z
  .looseObject({ prompt: text(), ...picture })
  .meta({ id: "ImageGeneration", description: OWN });

/** The parsed parts of a form. */
export const EditBody = z.looseObject({ prompt: text(), ...picture });
export const VariationBody = z.looseObject(picture);
export type PictureBody = z.output<typeof VariationBody>;

export const SpeechBody = z
  .looseObject({
    input: text()
      .min(1)
      .refine((input) => charactersOf(input) <= INPUT_CHARACTERS_MAX, {
        params: detail("characters_at_most", { max: INPUT_CHARACTERS_MAX }),
      })
      .meta({ description: `At most ${INPUT_CHARACTERS_MAX} characters, and no more than the service allows.` }),
    model,
    voice: z
      .union([z.string().max(1000), z.object({ id: z.string().max(1000) }).transform(({ id }) => id)])
      .nullish()
      .meta({ description: "The origin's name of a voice, as a string or as `{id}`." }),
    instructions: z.string().nullish(),
    speed: z.number().min(0.25).max(4).nullish(),
    response_format: z.enum(["mp3", "opus", "aac", "flac", "wav", "pcm"]).nullish().meta({
      description:
        "`wav` and `pcm` are always available; others if the origin can return them. Default: `mp3` if available, otherwise `wav`.",
    }),
    stream_format: z.enum(["audio", "sse"]).nullish(),
  })
  .meta({ id: "Speech", description: OWN });
export type SpeechBody = z.output<typeof SpeechBody>;

/** Fields about the response format, or that no origin here knows. An origin gets one only if its task maps it. */
const DIALECT_ALONE = new Set([
  "model",
  "response_format",
  "output_format",
  "output_compression",
  "stream",
  "stream_format",
  "partial_images",
  "quality",
  "style",
  "background",
  "moderation",
  "complexity",
  "input_fidelity",
  "user",
  "safety_identifier",
  "instructions",
]);

/** Returns the body without the fields that concern only the dialect. */
export function givenTo(task: Task, body: Given): Given {
  const named = new Set(task.fields.map(({ from }) => from));
  return Object.fromEntries(Object.entries(body).filter(([name]) => named.has(name) || !DIALECT_ALONE.has(name)));
}
