/**
 * Reads one HTTP/1.1 response incrementally: a status line, headers, and a body delimited by length, by chunks or by
 * the end of the connection. Supports only as much of HTTP as the servers of this benchmark send. Pure.
 */

/** Longest response head in bytes; a longer one is an error. */
const HEAD_BYTES_MAX = 65_536;
const HEAD_END = Buffer.from("\r\n\r\n");
const LAST_CHUNK = Buffer.from("0\r\n\r\n");

export interface Answer {
  /** 0: the connection failed, or the response was not HTTP. */
  status: number;
  /** The value of `Retry-After` in ms; null without it. */
  retryAfterMs: number | null;
  serverTiming: string;
}

export const FAILED: Answer = { status: 0, retryAfterMs: null, serverTiming: "" };

interface Head extends Answer {
  /** Bytes of the body; null: until the last chunk or the end of the connection. */
  length: number | null;
  chunked: boolean;
  closes: boolean;
}

export type Progress =
  | { kind: "unfinished" }
  /** `closes`: the server accepts no further request on this connection. */
  | { kind: "whole"; answer: Answer; closes: boolean }
  /** The head is too long. */
  | { kind: "broken" };

const UNFINISHED: Progress = { kind: "unfinished" };

export class AnswerReader {
  /** Bytes received before the head was complete. */
  #before: Buffer = Buffer.alloc(0);
  #head: Head | null = null;
  #seen = 0;
  /** The last bytes seen, for recognizing the last chunk. */
  #tail: Buffer = Buffer.alloc(0);

  read(part: Buffer): Progress {
    if (this.#head !== null) return this.#take(this.#head, part);
    const all = this.#before.length === 0 ? part : Buffer.concat([this.#before, part]);
    const end = all.indexOf(HEAD_END);
    if (end < 0) {
      this.#before = all;
      return all.length > HEAD_BYTES_MAX ? { kind: "broken" } : UNFINISHED;
    }
    this.#head = parseHead(all.toString("latin1", 0, end));
    return this.#take(this.#head, all.subarray(end + HEAD_END.length));
  }

  /** The connection has ended: completes a response that is delimited by it; any other is a failure. */
  end(): Answer {
    const head = this.#head;
    return head !== null && head.length === null && !head.chunked ? answerOf(head) : FAILED;
  }

  #take(head: Head, body: Buffer): Progress {
    this.#seen += body.length;
    if (head.chunked)
      this.#tail = Buffer.concat([this.#tail, body.subarray(-LAST_CHUNK.length)]).subarray(-LAST_CHUNK.length);
    // The base64 of a picture contains no line breaks, so these bytes occur only at the end of the chunks.
    const isWhole = head.chunked ? this.#tail.equals(LAST_CHUNK) : head.length !== null && this.#seen >= head.length;
    return isWhole ? { kind: "whole", answer: answerOf(head), closes: head.closes } : UNFINISHED;
  }
}

const answerOf = ({ status, retryAfterMs, serverTiming }: Head): Answer => ({ status, retryAfterMs, serverTiming });

function parseHead(text: string): Head {
  const field = (name: RegExp): string => name.exec(text)?.[1]?.trim() ?? "";
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? 0);
  const length = field(/\r\ncontent-length:([^\r]*)/i);
  const after = field(/\r\nretry-after:([^\r]*)/i);
  return {
    status,
    // A 204 has no body and no Content-Length (RFC 9110 15.3.5).
    length: status === 204 ? 0 : length === "" ? null : Number(length),
    chunked: /\r\ntransfer-encoding:[^\r]*chunked/i.test(text),
    closes: /\r\nconnection:[^\r]*close/i.test(text),
    retryAfterMs: after === "" ? null : Number(after) * 1000,
    serverTiming: field(/\r\nserver-timing:([^\r]*)/i),
  };
}
