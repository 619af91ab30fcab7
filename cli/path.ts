/** Builds API paths from what the user typed: an id is always exactly one segment. */
import { usageFailure } from "./failure.ts";

export function path(texts: TemplateStringsArray, ...ids: string[]): string {
  return String.raw({ raw: texts }, ...ids.map(segment));
}

function segment(id: string): string {
  // A URL cannot express these as a segment.
  if (id === "" || id === "." || id === "..") throw usageFailure(`"${id}" is no id.`);
  return encodeURIComponent(id);
}
