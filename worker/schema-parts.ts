/** What the schemas of services and tenants share. */
import { z } from "zod";

/** Ids that people choose for services and cards. */
export const Id = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "1 to 63 of a-z 0-9 . _ - , starting with a letter or digit");

export const count = (max: number) => z.int().min(1).max(max);

/** What a field means, for the OpenAPI document. */
export const says = (description: string) => ({ description });
