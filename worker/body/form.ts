/**
 * Works on a multipart form's raw bytes. Servers disagree on a form that deviates from RFC 7578, so a part that some
 * server could read under another name is refused, and two forms count as the same only if nothing but their boundaries
 * differs.
 */
import { invalid, type Refusal } from "../refusal.ts";

/** Maximum number of parts in a form. */
export const PARTS_MAX = 1000;
export const LF = 0x0a;
export const CR = 0x0d;

/** Empty when the content type has no boundary. */
export function boundaryOf(contentType: string): string {
  const [, quoted, plain] = /;\s*boundary=(?:"([^"]*)"|([^;]*))/i.exec(contentType) ?? [];
  return quoted ?? plain?.trim() ?? "";
}

/** The bytes before, between and after a form's boundaries; null without a boundary. */
export function betweenBoundaries(
  bytes: Uint8Array<ArrayBuffer>,
  contentType: string,
): Uint8Array<ArrayBuffer>[] | null {
  const boundary = boundaryOf(contentType);
  if (boundary === "") return null;
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const delimiter = `--${boundary}`;
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let from = 0;
  for (let at = body.indexOf(delimiter); at >= 0; at = body.indexOf(delimiter, from)) {
    pieces.push(bytes.subarray(from, at));
    from = at + delimiter.length;
  }
  return [...pieces, bytes.subarray(from)];
}

/** Whether a part's head has one `Content-Disposition` with one name, without an extended `name*` (RFC 8187). */
export function isPlainHead(head: Uint8Array): boolean {
  const lines = new TextDecoder("latin1")
    .decode(head)
    .replace(/\r?\n[ \t]+/g, " ")
    .split(/\r\n|[\r\n]/);
  const [disposition = "", ...more] = lines.filter((line) => /^\s*content-disposition\s*:/i.test(line));
  const parameters = disposition.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  return (
    more.length === 0 &&
    (parameters.match(/;\s*name\s*\*?\s*=/gi)?.length ?? 0) <= 1 &&
    !/;\s*name\s*\*/i.test(parameters)
  );
}

/** Index after the first empty line; null when there is none yet. */
export function headEnd(bytes: Uint8Array): number | null {
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (bytes[at + 1] === LF) return at + 2;
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3;
  }
  return null;
}

export function malformedForm(): Refusal {
  return invalid("body", "form");
}

export function tooManyParts(name: string): Refusal {
  return invalid(name, "parts_at_most", { max: PARTS_MAX });
}
