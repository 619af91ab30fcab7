/** Extracts the message from an origin's own error, for dialects and jobs, which render it in their formats. Pure. */

const LENGTH_MAX = 1_000;

export interface Complaint {
  /** At most LENGTH_MAX characters; null if the error has no readable text. */
  message: string | null;
  /** The field that the error names, if any. */
  field: string | null;
}

/**
 * FastAPI lists errors under `detail`, with the field last in `loc`. Other servers send one text, or, like OpenAI's
 * API, an object that contains it. A body that is neither JSON nor an HTML page is the message itself.
 */
export function complaintOf(text: string): Complaint {
  const body = jsonIn(text);
  if (typeof body !== "object" || body === null) {
    const isPage = text.trimStart().startsWith("<");
    return { message: isPage ? null : said(text), field: null };
  }
  const { detail, error, errors, message } = body as Record<string, unknown>;
  const [first] = Array.isArray(detail) ? (detail as unknown[]) : [];
  if (typeof first === "object" && first !== null) {
    const { loc, msg } = first as { loc?: unknown; msg?: unknown };
    const field: unknown = Array.isArray(loc) ? loc.at(-1) : null;
    return { message: said(msg) ?? said(text), field: typeof field === "string" ? field : null };
  }
  const nested: unknown = typeof error === "object" && error !== null && "message" in error ? error.message : null;
  const found = [message, detail, error, nested, errors].map(said).find((each) => each !== null);
  const rest = Object.keys(body).length === 0 ? null : said(text);
  return { message: found ?? rest, field: null };
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function said(value: unknown): string | null {
  const text = typeof value === "string" ? value.trim().slice(0, LENGTH_MAX) : "";
  return text === "" ? null : text;
}
