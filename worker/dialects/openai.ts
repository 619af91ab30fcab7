/** The OpenAI dialect: which call goes where. It parses and renders; the run is the one of every other mouth. */
import type { Mouth } from "../mouth.ts";
import type { Refusal } from "../refusal.ts";
import { editPicture, generatePicture, varyPicture } from "./openai/pictures.ts";
import { speak } from "./openai/speech.ts";

type Call = (mouth: Mouth) => Promise<Response | Refusal>;

/** By path; all are POSTs. */
export const OPENAI_CALLS: Record<string, Call> = {
  "/v1/images/generations": generatePicture,
  "/v1/images/edits": editPicture,
  "/v1/images/variations": varyPicture,
  "/v1/audio/speech": speak,
};

export { getModel, listModels } from "./openai/models.ts";
