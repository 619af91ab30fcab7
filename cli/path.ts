/** Paths of the API with what the reader typed in them: ids only ever stand as one segment. */
import { usageFailure } from "./failure.ts";

export function path(texts: TemplateStringsArray, ...ids: string[]): string {
  return String.raw({ raw: texts }, ...ids.map(segment));
}

function segment(id: string): string {
  // A URL has no way to say these as a name.
  if (id === "" || id === "." || id === "..") throw usageFailure(`"${id}" is no id.`);
  return encodeURIComponent(id);
}
