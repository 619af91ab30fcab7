/** fal's official client, unmodified, pointed at the front door of a test in one of two ways. */
import { type ApiError, createFalClient, type FalClient } from "@fal-ai/client";
import type { Doorway } from "../contract/doorway.ts";

export const SMALL = { image_size: { width: 64, height: 64 }, num_inference_steps: 1 };
/** Takes some time at a card's own pace. */
export const SLOW = { image_size: { width: 768, height: 768 }, num_inference_steps: 100 };

export type Way = "proxyUrl" | "requestMiddleware";
export const WAYS: Way[] = ["proxyUrl", "requestMiddleware"];

export function fal(door: Doorway, way: Way = "proxyUrl", credentials = door.ownKey): FalClient {
  const { url } = door.portico;
  if (way === "proxyUrl")
    return createFalClient({ credentials, proxyUrl: { url: `${url}/fal/proxy`, when: "always" } });
  const mouths: [host: string, mouth: string][] = [
    ["https://fal.run", "run"],
    ["https://queue.fal.run", "queue"],
    ["https://rest.fal.ai", "rest"],
  ];
  return createFalClient({
    credentials,
    requestMiddleware: async (request) => {
      const [host, mouth] = mouths.find(([each]) => request.url.startsWith(`${each}/`)) ?? [];
      if (host === undefined) throw new Error(`to ${request.url}`);
      return { ...request, url: request.url.replace(host, `${url}/fal/${mouth}`) };
    },
  });
}

export interface FileShown {
  url: string;
  content_type: string;
  file_size: number;
  width?: number;
  height?: number;
}

export interface Output {
  images: FileShown[];
  audio: FileShown;
  seed: number;
  prompt: string;
}

/** The error that the client threw. */
export async function raised(
  call: Promise<unknown>,
): Promise<ApiError<{ detail: unknown; message: string; error_type: string }>> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Error && "status" in error) return error as Awaited<ReturnType<typeof raised>>;
    throw error;
  }
  throw new Error("nothing was raised");
}
