/** Direct access to the objects of a runtime in this process, without the Worker. */
import { expect } from "vitest";
import type { Attempt, Claimed, Ending } from "../../durable-objects/card-protocol.ts";
import type { Line } from "../line/line.ts";

/** A Card object of the runtime, called without the Worker. */
export interface CardObject {
  claim(attempt: Attempt): Promise<Claimed | { no: string }>;
  renew(number: unknown, attempt: unknown): Promise<{ renewed: boolean; why?: string }>;
  release(number: unknown, attempt: unknown, ending: Ending): Promise<{ released: boolean; why?: string }>;
  report(): Promise<{ incarnation: number; lastNumber: number; held: { number: number; attempt: string }[] }>;
  status(): Promise<{ counters: Record<string, number> }>;
}

export async function cardObject({ portico }: Line, card: string): Promise<CardObject> {
  const namespace = await portico.mf().getDurableObjectNamespace("CARD");
  // The proxy for it does not know its methods.
  return namespace.get(namespace.idFromName(card)) as unknown as CardObject;
}

/** Ends an object: its memory is lost at once, and every call in progress fails. */
export async function endObject({ portico }: Line, binding: string, name: string): Promise<void> {
  const namespace = await portico.mf().getDurableObjectNamespace(binding);
  const stub = namespace.get(namespace.idFromName(name)) as unknown as { end(): Promise<void> };
  await expect(stub.end()).rejects.toThrow();
}

export function attemptOf(attempt: string, service: string): Attempt {
  return { attempt, request: `req_${attempt}`, tenant: "nobody", service, fingerprint: null };
}
