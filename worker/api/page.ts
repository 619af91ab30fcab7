/** Paged lists, `{"data":[...],"next_cursor"}`, in an order that new rows do not disturb. Cursors are opaque. */
import { z } from "zod";
import { invalid, isRefusal, type Refusal } from "../refusal.ts";
import { checkFields } from "./json-body.ts";
import type { Answer } from "../admin/route.ts";

const PAGE_LENGTH_MAX = 1000;
const PAGE_LENGTH = 100;

/** Where a page starts: the sort key of the previous page's last row, as used by the list's own query. */
export type Position = (string | number)[];

export const PageQuery = z.object({
  limit: z.coerce
    .number<string>()
    .int()
    .min(1)
    .max(PAGE_LENGTH_MAX)
    .default(PAGE_LENGTH)
    .meta({ description: "Largest number of rows in the page." }),
  cursor: z.string().max(512).optional().meta({ description: "`next_cursor` of the previous page." }),
});

export function listOf<S extends z.ZodType>(row: S) {
  return z.object({ data: z.array(row), next_cursor: z.string().nullable() });
}

/** Decodes a cursor into its position; null at the start of the list. */
export function positionOf<P extends Position>(
  cursor: string | undefined,
  shape: z.ZodType<P>,
): { at: P | null } | Refusal {
  if (cursor === undefined) return { at: null };
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(cursor, { alphabet: "base64url" })));
  } catch {
    return invalid("cursor", "cursor");
  }
  const position = checkFields(shape, value);
  return isRefusal(position) ? invalid("cursor", "cursor") : { at: position.body };
}

/** Builds a page of up to `limit` rows. Callers pass one row more if there is a next page. */
export function page<Row>(
  rows: Row[],
  limit: number,
  position: (row: Row) => Position,
  view: (row: Row) => object,
): Answer {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const more = rows.length > limit && last !== undefined;
  return { status: 200, body: { data: shown.map(view), next_cursor: more ? cursorOf(position(last)) : null } };
}

export function cursorOf(position: Position): string {
  const text = new TextEncoder().encode(JSON.stringify(position));
  return text.toBase64({ alphabet: "base64url", omitPadding: true });
}
