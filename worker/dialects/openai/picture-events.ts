/** `stream: true` of the image calls: server-sent events with previews during the run, then the finished images. */
import type { Caller } from "../../auth.ts";
import { Events, toldIn } from "../../api/events.ts";
import { tellPosition } from "../../run/position.ts";
import { Preview } from "../../run/preview.ts";
import { type Refusal, isRefusal } from "../../refusal.ts";
import { answerAsk, type RenderedAnswer } from "../../answer.ts";
import type { CallContext } from "../../call-context.ts";
import type { Grant } from "../../run/lease.ts";
import { imagesOf, NO_USAGE, nowSeconds, originAnswer, originError } from "./answer.ts";
import type { ImageRequest } from "./pictures.ts";

/** Previews of a stream that does not set `partial_images`. */
const PREVIEWS = 3;
const KINDS = { generate: "image_generation", edit: "image_edit" } as const;

export async function streamPictures(
  context: CallContext,
  caller: Caller,
  imageRequest: ImageRequest,
  name: keyof typeof KINDS,
): Promise<Response | Refusal> {
  const { request, env, trace } = context;
  const { ask, body, task, format } = imageRequest;
  const events = new Events(request.signal, trace);
  const common = {
    created_at: nowSeconds(),
    size: body.size ?? "auto",
    quality: "auto",
    background: "auto",
    output_format: format,
  };
  const show = (b64_json: string, partial_image_index: number): Promise<void> =>
    events.event({ type: `${KINDS[name]}.partial_image`, b64_json, partial_image_index, ...common });
  const most = body.partial_images ?? PREVIEWS;
  const preview =
    task.progress === undefined || task.progress === null ? null : new Preview(context, ask, task.progress, most, show);
  let over = false;
  const started = (grant: Grant): void => {
    over = true;
    preview?.follow(grant);
  };
  const follower = { gone: events.gone, started };
  const work = answerAsk(context, caller, ask, { follower }).finally(() => {
    over = true;
    preview?.stop();
  });
  const tell = async (shown: RenderedAnswer): Promise<void | Refusal> => {
    if (shown.status >= 400) return events.fail(await originError(shown, task, trace));
    const images = await imagesOf(shown, task);
    if (isRefusal(images)) return images;
    for (const b64_json of images)
      await events.event({ type: `${KINDS[name]}.completed`, b64_json, ...common, usage: NO_USAGE });
  };
  const instead = async (shown: RenderedAnswer): Promise<Response | null> =>
    shown.status >= 400 ? originAnswer(shown, task, trace) : null;
  const meanwhile = (): void => void tellPosition(env, ask, trace.id, events, () => over);
  return toldIn(events, work, { instead, meanwhile, tell });
}
