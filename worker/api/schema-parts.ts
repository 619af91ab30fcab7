/** Parts shared by the schemas of services and tenants. */
import { wrong } from "../details.ts";
import { z } from "zod";

/** Ids that operators choose for services and cards. */
export const Id = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, wrong("id"));

export const count = (max: number) => z.int().min(1).max(max);

/** A whole number in a query, written in digits only. */
export const digits = (min: number, max: number) =>
  z.preprocess(
    (text) => (typeof text === "string" && /^\d{1,9}$/.test(text) ? Number(text) : text),
    z.int().min(min).max(max),
  );

/** A field's description in the OpenAPI document. */
export const says = (description: string) => ({ description });

/**
 * Returns a partial object without its undefined members, so that spreading it does not overwrite values with
 * undefined.
 */
export function given<T extends object>(part: T | undefined): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(part ?? {}).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
