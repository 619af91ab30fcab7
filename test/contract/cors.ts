/** Helpers of the CORS tests. */
import { expect } from "vitest";
import type { Answer } from "../support/raw.ts";
import type { Doorway } from "./doorway.ts";

export const APP = "https://app.example.com";
export const LOCAL = "http://localhost:3000";
export const STRANGER = "https://evil.example";

/** Creates a key of a new tenant with these origins. */
export async function keyOf(door: Doorway, origins: string[], limits = {}): Promise<string> {
  const tenant = await door.tenant(limits);
  await door.portico.admin("PATCH", `/tenants/${tenant}`, { origins });
  return door.key({ tenant });
}

export const allowed = (answer: Answer) => answer.header("access-control-allow-origin");

export function expectClosed(answer: Answer, what: string): void {
  const told = answer.headers.map(([name]) => name).filter((name) => name.startsWith("access-control-"));
  expect(told, what).toEqual([]);
}

/** Sends a preflight as a browser does. */
export function preflight(
  door: Doorway,
  target: string,
  method: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const asked = { origin: STRANGER, "access-control-request-method": method };
  return door.ask(target, { method: "OPTIONS", key: null, headers: { ...asked, ...headers } });
}
