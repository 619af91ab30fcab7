/** Concatenation of byte chunks. */

/** `bytes`: total length of the chunks. */
export function concat(
  chunks: Uint8Array[],
  bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
