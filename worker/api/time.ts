/** Time format of responses. */
import { z } from "zod";

export const Time = z.string().meta({ format: "date-time", description: "ISO 8601, UTC." });

/** `ms`: since the Unix epoch. */
export const iso = (ms: number): string => new Date(ms).toISOString();
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));
