/** The OpenAI dialect: routes calls. It only parses and renders; runs are those of every other route. */
import type { CallContext } from "../call-context.ts";
import type { Refusal } from "../refusal.ts";
import { editPicture, generatePicture, varyPicture } from "./openai/pictures.ts";
import { speak } from "./openai/speech.ts";

type Call = (context: CallContext) => Promise<Response | Refusal>;

/** Handlers by path; all are POST. */
export const OPENAI_CALLS: Record<string, Call> = {
  "/v1/images/generations": generatePicture,
  "/v1/images/edits": editPicture,
  "/v1/images/variations": varyPicture,
  "/v1/audio/speech": speak,
};

export { getModel, listModels } from "./openai/models.ts";
