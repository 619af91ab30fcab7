/** The objects of a runtime in this process, spoken to past the Worker. */
import { expect } from "vitest";
import type { Attempt, Claimed, Ending } from "../../durable-objects/card-protocol.ts";
import type { Line } from "../line/line.ts";

/** A Card object as the runtime has it, spoken to past the Worker. */
export interface CardObject {
  claim(attempt: Attempt): Promise<Claimed | { no: string }>;
  renew(number: unknown, attempt: unknown): Promise<{ renewed: boolean; why?: string }>;
  release(number: unknown, attempt: unknown, ending: Ending): Promise<{ released: boolean; why?: string }>;
  report(): Promise<{ incarnation: number; lastNumber: number; held: { number: number; attempt: string }[] }>;
  status(): Promise<{ counters: Record<string, number> }>;
}

export async function cardObject({ portico }: Line, card: string): Promise<CardObject> {
  const namespace = await portico.mf().getDurableObjectNamespace("CARD");
  // The proxy that stands for it knows no methods.
  return namespace.get(namespace.idFromName(card)) as unknown as CardObject;
}

/** Its memory is gone at once, and every call to it that is under way fails. */
export async function endObject({ portico }: Line, binding: string, name: string): Promise<void> {
  const namespace = await portico.mf().getDurableObjectNamespace(binding);
  const stub = namespace.get(namespace.idFromName(name)) as unknown as { end(): Promise<void> };
  await expect(stub.end()).rejects.toThrow();
}

export function attemptOf(attempt: string, service: string): Attempt {
  return { attempt, request: `req_${attempt}`, tenant: "nobody", service, fingerprint: null };
}
