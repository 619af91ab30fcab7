/** Replicate's official client, unmodified, pointed at the front door of a test. */
import Replicate, { type ApiError } from "replicate";
import type { Doorway } from "../contract/doorway.ts";

/** Small, so that drawing takes almost no time. */
export const SMALL = { prompt: "a lighthouse", width: 64, height: 64, steps: 1 };
/** Long enough that a test can act while it runs. */
export const SLOW = { prompt: "a lighthouse", width: 512, height: 512, steps: 40 };

export type Options = ConstructorParameters<typeof Replicate>[0];

export function replicate(door: Doorway, options: Options = {}): Replicate {
  return new Replicate({ auth: door.ownKey, baseUrl: `${door.portico.url}/replicate/v1`, ...options });
}

export interface Problem {
  title: string;
  detail: string;
  status: number;
  invalid_fields?: { type: string; field: string; description: string }[];
}

/** The error that a call was refused with, and the problem in its message, the only place where the client keeps it. */
export async function refused(call: Promise<unknown>): Promise<{ error: ApiError; problem: Problem }> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "ApiError") throw error;
    const [text = ""] = /\{.*\}/s.exec(error.message) ?? [];
    return { error: error as ApiError, problem: JSON.parse(text) as Problem };
  }
  throw new Error("it was not refused");
}
