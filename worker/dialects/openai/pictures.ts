/**
 * `/v1/images/generations`, `/edits` and `/variations`: builds the request to an image service and renders its images.
 */
import type { Ask } from "../../ask.ts";
import type { Caller } from "../../auth.ts";
import { BUFFERED_BYTES_MAX } from "../../body/body.ts";
import { callerWith } from "../../caller/caller.ts";
import { config } from "../../env.ts";
import { checkedBody, checkFields } from "../../api/json-body.ts";
import type { Task } from "../mapping.ts";
import { fromBase64, media } from "../../results/media.ts";
import { invalid, type Refusal, isRefusal } from "../../refusal.ts";
import { answerAsk, type RenderedAnswer } from "../../answer.ts";
import type { CallContext } from "../../call-context.ts";
import { link } from "../../serve.ts";
import { signedUrl } from "../../results/signature.ts";
import { askFor, chosen } from "../task.ts";
import { imagesOf, nowSeconds, originAnswer } from "./answer.ts";
import { pictureForm } from "./picture-form.ts";
import { streamPictures } from "./picture-events.ts";
import { EditBody, GenerationBody, givenTo, type PictureBody, VariationBody } from "./words.ts";

const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: 64, emptyIsObject: false };
/** Base64 characters that are enough to detect the media type. */
const KIND_LENGTH = 64;

/** A parsed request for images. */
export interface ImageRequest {
  task: Task;
  ask: Ask;
  body: PictureBody;
  /** The format that the origin returns. */
  format: string;
}

export async function generatePicture(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const checked = await checkedBody(context.request, GenerationBody, BODY);
  return isRefusal(checked) ? checked : createImages(context, caller, "generate", checked.body);
}

export async function editPicture(context: CallContext): Promise<Response | Refusal> {
  return fromForm(context, EditBody);
}

export async function varyPicture(context: CallContext): Promise<Response | Refusal> {
  return fromForm(context, VariationBody);
}

async function fromForm(
  context: CallContext,
  schema: typeof EditBody | typeof VariationBody,
): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const form = await pictureForm(context.request, caller);
  if (isRefusal(form)) return form;
  const checked = checkFields(schema, form);
  return isRefusal(checked) ? checked : createImages(context, caller, "edit", checked.body);
}

async function createImages(
  context: CallContext,
  caller: Caller,
  name: "generate" | "edit",
  body: PictureBody,
): Promise<Response | Refusal> {
  const choice = await chosen(context, caller, name, body.model ?? null);
  if (isRefusal(choice)) return choice;
  const { task } = choice;
  const format = body.output_format ?? task.formats[0] ?? "png";
  if (!task.formats.some((each) => each === format))
    return invalid("output_format", "formats", { formats: task.formats.join(", ") });
  const ask = await askFor(context, caller, choice, givenTo(task, body));
  if (isRefusal(ask)) return ask;
  const imageRequest = { task, ask, body, format };
  if (body.stream) return streamPictures(context, caller, imageRequest, name);
  const shown = await answerAsk(context, caller, ask);
  if (isRefusal(shown)) return shown;
  return shown.status >= 400 ? originAnswer(shown, task, context.trace) : answer(context, imageRequest, shown);
}

async function answer(
  context: CallContext,
  { task, body, format }: ImageRequest,
  shown: RenderedAnswer,
): Promise<Response | Refusal> {
  const images = await imagesOf(shown, task);
  if (isRefusal(images)) return images;
  const { response_format: wanted, size } = body;
  const data = await Promise.all(
    images.map(async (image, i) => ({
      ...(wanted === "b64_json" ? {} : { url: await urlOf(context, shown.results[i], image) }),
      ...(wanted === "url" ? {} : { b64_json: image }),
    })),
  );
  const headers = new Headers();
  await link(context, headers, shown.results);
  const told = size === undefined || size === null || size === "auto" ? {} : { size };
  return Response.json({ created: nowSeconds(), data, output_format: format, ...told }, { headers });
}

/** An image that was not stored (`no-store`) has no URL: a `data:` URL holds it instead. */
async function urlOf({ env, base }: CallContext, id: string | undefined, image: string): Promise<string> {
  if (id !== undefined) return signedUrl(config(env), base, id, Date.now());
  const start = fromBase64(image.slice(0, KIND_LENGTH));
  return `data:${(start && media(start)?.type) ?? "application/octet-stream"};base64,${image}`;
}
