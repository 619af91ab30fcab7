/** Form bodies: multipart or urlencoded, or the query if there is no body. */
import type { Exchange } from "./exchange.ts";

export interface Form {
  readonly texts: ReadonlyMap<string, string>;
  readonly files: ReadonlyMap<string, Buffer>;
}

/** Returns null if the body does not match its content type. */
export async function readForm({ req, query }: Exchange, body: Buffer): Promise<Form | null> {
  if (body.length === 0) return { texts: new Map(query), files: new Map() };
  const type = req.headers["content-type"] ?? "";
  if (!/^(multipart\/form-data|application\/x-www-form-urlencoded)\b/i.test(type))
    return { texts: new Map(), files: new Map() };
  try {
    const data = await new Response(new Uint8Array(body), {
      headers: { "content-type": type },
    }).formData();
    const texts = new Map<string, string>();
    const files = new Map<string, Buffer>();
    for (const [name, value] of data) {
      if (typeof value === "string") texts.set(name, value);
      else files.set(name, Buffer.from(await value.arrayBuffer()));
    }
    return { texts, files };
  } catch {
    return null; // An invalid body is the caller's error.
  }
}
