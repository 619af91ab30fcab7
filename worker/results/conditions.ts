/** Conditional and range requests on one immutable representation with a strong validator (RFC 9110 13, 14). Pure. */

export interface ByteRange {
  offset: number;
  length: number;
}

const opaque = (tag: string) => tag.trim().replace(/^W\//, "");

/** Whether a list of entity tags contains this one: weak comparison for If-None-Match, strong for If-Match. */
function names(list: string, etag: string, weak: boolean): boolean {
  if (list.trim() === "*") return true;
  return list.split(",").some((tag) => (weak ? opaque(tag) === etag : tag.trim() === etag));
}

/** The three forms of an HTTP date (RFC 9110 5.6.7). The last one has no time zone and means GMT. */
const DATES = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
];

/** An HTTP date in seconds since the epoch; null when it is invalid and must be ignored. */
function seconds(header: string | null): number | null {
  const date = header?.trim() ?? "";
  if (!DATES.some((form) => form.test(date))) return null;
  const at = Date.parse(date.endsWith(" GMT") ? date : `${date} GMT`);
  return Number.isNaN(at) ? null : Math.floor(at / 1000);
}

/** If-Match, else If-Unmodified-Since (RFC 9110 13.2.2, steps 1 and 2). */
export function preconditionFailed(headers: Headers, etag: string, modifiedAt: number): boolean {
  const match = headers.get("if-match");
  if (match !== null) return !names(match, etag, false);
  const since = seconds(headers.get("if-unmodified-since"));
  return since !== null && Math.floor(modifiedAt / 1000) > since;
}

/** For methods that change something: the preconditions above, and If-None-Match (step 3). */
export function changeForbidden(headers: Headers, etag: string, modifiedAt: number): boolean {
  const none = headers.get("if-none-match");
  return preconditionFailed(headers, etag, modifiedAt) || (none !== null && names(none, etag, true));
}

/** If-None-Match, else If-Modified-Since (steps 3 and 4). */
export function isNotModified(headers: Headers, etag: string, modifiedAt: number): boolean {
  const none = headers.get("if-none-match");
  if (none !== null) return names(none, etag, true);
  const since = seconds(headers.get("if-modified-since"));
  return since !== null && Math.floor(modifiedAt / 1000) <= since;
}

/**
 * Returns the one range to send, or null for the whole. Multiple ranges, other units, a malformed header, and an
 * If-Range without a strong match all get the whole (RFC 9110 14.2, 13.1.5).
 */
export function requestedRange(request: Request, etag: string, bytes: number): ByteRange | "unsatisfiable" | null {
  const header = request.headers.get("range");
  if (header === null || request.method !== "GET") return null;
  const ifRange = request.headers.get("if-range");
  if (ifRange !== null && ifRange.trim() !== etag) return null;
  const [, first, last] = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header) ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return null;
  if (first === "") {
    const length = Math.min(Number(last), bytes);
    return length === 0 ? "unsatisfiable" : { offset: bytes - length, length };
  }
  const from = Number(first);
  const to = last === "" ? bytes - 1 : Number(last);
  if (last !== "" && to < from) return null;
  return from >= bytes ? "unsatisfiable" : { offset: from, length: Math.min(to, bytes - 1) - from + 1 };
}
