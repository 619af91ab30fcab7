import fc from "fast-check";
import { expect, test } from "vitest";
import { type Answer, AnswerReader, FAILED, type Progress } from "../../bench/answer.ts";

interface Sent {
  status: number;
  retryAfter: number | null;
  timing: string | null;
  closes: boolean;
  framing: "length" | "chunks" | "end";
  body: Buffer;
  /** Whether header names are in upper case. */
  loud: boolean;
}

// The servers here send no line ends in a body.
const body = fc.string({ maxLength: 200 }).map((text) => Buffer.from(text.replaceAll(/[\r\n]/g, "."), "utf8"));
const sent: fc.Arbitrary<Sent> = fc.record({
  // A 204 has no body.
  status: fc.integer({ min: 200, max: 599 }).filter((status) => status !== 204),
  retryAfter: fc.option(fc.nat({ max: 3_600 })),
  timing: fc.option(fc.constantFrom("queue;dur=1.5", "auth;dur=0.1, origin;dur=300")),
  closes: fc.boolean(),
  framing: fc.constantFrom("length", "chunks", "end"),
  body,
  loud: fc.boolean(),
});
const cuts = fc.array(fc.nat({ max: 1_000 }), { maxLength: 12 });

function bytesOf({ status, retryAfter, timing, closes, framing, body: content, loud }: Sent): Buffer {
  const fields = [
    ["date", "Sat, 21 Nov 2026 06:00:00 GMT"],
    ...(retryAfter === null ? [] : [["retry-after", String(retryAfter)]]),
    ...(timing === null ? [] : [["server-timing", timing]]),
    ...(closes ? [["connection", "close"]] : []),
    ...(framing === "length" ? [["content-length", String(content.length)]] : []),
    ...(framing === "chunks" ? [["transfer-encoding", "chunked"]] : []),
  ].map(([name = "", value = ""]) => `${loud ? name.toUpperCase() : name}: ${value}\r\n`);
  const head = Buffer.from(`HTTP/1.1 ${status} Whatever\r\n${fields.join("")}\r\n`);
  return Buffer.concat([head, framing === "chunks" ? chunked(content) : content]);
}

function chunked(content: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < content.length; at += 7) {
    const part = content.subarray(at, at + 7);
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n"));
  }
  return Buffer.concat([...parts, Buffer.from("0\r\n\r\n")]);
}

function pieces(bytes: Buffer, at: number[]): Buffer[] {
  const places = [0, ...at.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end));
}

/** Feeds the pieces to a reader; returns the progress after each, and the answer if the connection then ends. */
function feed(parts: Buffer[]): { said: Progress[]; atEnd: Answer } {
  const reader = new AnswerReader();
  return { said: parts.map((part) => reader.read(part)), atEnd: reader.end() };
}

const expected = ({ status, retryAfter, timing }: Sent): Answer => ({
  status,
  retryAfterMs: retryAfter === null ? null : retryAfter * 1000,
  serverTiming: timing ?? "",
});

test("an answer cut into arbitrary pieces is whole exactly with its last byte", () => {
  fc.assert(
    fc.property(sent, cuts, (one, at) => {
      const bytes = bytesOf(one);
      const parts = pieces(bytes, at).filter((part) => part.length > 0);
      const { said, atEnd } = feed(parts);
      const last = said.pop();
      expect(said.every(({ kind }) => kind === "unfinished")).toBe(true);
      if (one.framing === "end") {
        expect(last?.kind).toBe("unfinished");
        expect(atEnd).toEqual(expected(one));
      } else {
        expect(last).toEqual({ kind: "whole", answer: expected(one), closes: one.closes });
      }
    }),
    { numRuns: 500 },
  );
});

test("reading byte by byte gives the same answer", () => {
  fc.assert(
    fc.property(
      sent.filter(({ framing }) => framing !== "end"),
      (one) => {
        const { said } = feed(Array.from(bytesOf(one), (byte) => Buffer.of(byte)));
        expect(said.at(-1)).toEqual({ kind: "whole", answer: expected(one), closes: one.closes });
        expect(said.findIndex(({ kind }) => kind === "whole")).toBe(said.length - 1);
      },
    ),
    { numRuns: 50 },
  );
});

test("an answer cut short by the end of the connection has failed, unless that end is its framing", () => {
  fc.assert(
    fc.property(sent, fc.integer({ min: 1, max: 500 }), (one, missing) => {
      const bytes = bytesOf(one);
      const headBytes = bytes.indexOf("\r\n\r\n") + 4;
      const end = Math.max(0, bytes.length - missing);
      const { atEnd } = feed([bytes.subarray(0, end)]);
      const isWhole = one.framing === "end" && end >= headBytes;
      expect(atEnd).toEqual(isWhole ? expected(one) : FAILED);
    }),
  );
});

test("input that is not HTTP is a failure, and an unfinished head is broken at 64 KiB", () => {
  const length = "content-length: 0\r\n\r\n";
  expect(feed([Buffer.from(`SSH-2.0-nothing\r\n${length}`)]).said).toMatchObject([{ answer: { status: 0 } }]);
  const { said } = feed([Buffer.from("HTTP/1.1 200 OK\r\n"), Buffer.alloc(65_536, "x")]);
  expect(said.map(({ kind }) => kind)).toEqual(["unfinished", "broken"]);
});

test("a 204 is whole at the end of its head", () => {
  const head = "HTTP/1.1 204 No Content\r\naccess-control-max-age: 7200\r\n\r\n";
  expect(new AnswerReader().read(Buffer.from(head))).toMatchObject({ kind: "whole", answer: { status: 204 } });
});
