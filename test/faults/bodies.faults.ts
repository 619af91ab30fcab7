/** Bodies of unusual size and form: a refused body takes no slot, an accepted one is passed on unchanged. */
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "../contract/origin.ts";
import { eventually } from "../line/caller.ts";
import { type Answer, bytesOf, RawCall } from "../support/raw.ts";
import { fault } from "./case.ts";
import { residentMb } from "./resident.ts";

const MB = 1_000_000;
const JSON_TYPE = { "content-type": "application/json" };
const CHUNKED = { "transfer-encoding": "chunked" };
const door = doorway();
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  const config = { breaker: { max_fails: 1_000 }, drain: { max_s: 1 }, queue: { max: 1_000, timeout_s: 60 } };
  await listOrigin(door, origin, "any", { ...config, kind: "http", route: "/any/" }, { slots: 8 });
  await listOrigin(door, origin, "image", { ...config, kind: "image", route: "/image/" }, { slots: 8 });
});
afterAll(() => origin.close());

const answerCount: Answering = (res, { body }) => {
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ bytes: body.length }));
};

/** Encodes a body as HTTP chunks. */
function chunked(body: Buffer, piece = MB): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < body.length; at += piece) {
    const part = body.subarray(at, at + piece);
    pieces.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n"));
  }
  return Buffer.concat([...pieces, Buffer.from("0\r\n\r\n")]);
}

/** JSON of exactly `bytes` bytes. */
function json(bytes: number): Buffer {
  const head = Buffer.from(JSON.stringify(picture({ filling: "" })).slice(0, -2));
  return Buffer.concat([head, Buffer.alloc(bytes - head.length - 2, "x"), Buffer.from('"}')]);
}

const send = (target: string, body: Buffer, headers: Record<string, string> = JSON_TYPE): Promise<Answer> =>
  door.ask(target, { method: "POST", body, headers });

fault(
  {
    number: "35",
    injection:
      "bodies of 100 MB, 100 MB and a byte, both in chunks without a length, torn ones, a gzip bomb of 200 MB, Content-Length -1, a body on GET",
    expected: "taken; 413 unread; 413 at the limit; never run; never inflated; 400; 400",
    limitMs: 120_000,
  },
  async (row) => {
    origin.answering = answerCount;
    const held = async () => (await door.portico.admin<{ data: unknown[] }>("GET", "/leases?limit=1000")).data.length;
    const is = (what: string, { status }: { status: number }, expected: number) =>
      row.figure(what, status, status === expected);
    const full = await send("/any/x", Buffer.alloc(100 * MB, "x"));
    is("100 MB through", full, 200);
    row.exactly("bytes at the origin", JSON.parse(full.text).bytes, 100 * MB);
    is("100 MB in chunks", await send("/any/x", chunked(Buffer.alloc(100 * MB, "x")), CHUNKED), 200);
    origin.seen.length = 0;
    for (const target of ["/any/x", "/image/txt2img"]) {
      const call = await RawCall.open(door.portico.url);
      const headers = { authorization: `Bearer ${door.ownKey}`, ...JSON_TYPE, "content-length": String(100 * MB + 1) };
      call.send(bytesOf(call.host, { method: "POST", target, headers }));
      is(`a byte more, ${target}`, await call.head(), 413);
      call.reset();
    }
    row.exactly("of these seen by the origin", origin.seen.length);
    const over = Buffer.alloc(100 * MB + 1, "x");
    is("a byte more in chunks", await send("/any/x", chunked(over), CHUNKED), 413);
    row.exactly("whole requests of it at the origin", origin.seen.length);
    origin.seen.length = 0;
    // A caller that disconnects during a body without a length must not be treated as having sent it all.
    for (const how of ["reset", "end", "garbage"] as const) {
      const call = await RawCall.open(door.portico.url);
      const headers = { authorization: `Bearer ${door.ownKey}`, ...CHUNKED };
      const before = origin.received;
      call.send(bytesOf(call.host, { method: "POST", target: "/any/x", headers }));
      call.send(chunked(Buffer.alloc(9 * MB, "x")).subarray(0, -5));
      await eventually("it is on its way", () => origin.received > before);
      if (how === "garbage") call.send(Buffer.from("zz\r\n"));
      else call[how]();
      await eventually("its slot is free", async () => (await held()) === 0);
      call.reset();
    }
    row.exactly("torn uploads that the origin took for whole", origin.seen.splice(0).length);
    // Checked bodies are spooled and checked before a slot is taken.
    origin.answering = answerImage;
    is("60 MB of JSON, checked", await send("/image/txt2img", json(60 * MB)), 200);
    row.exactly("bytes at the origin", origin.taken().body.length, 60 * MB);
    is(
      "a byte more in chunks, checked",
      await send("/image/txt2img", chunked(json(100 * MB + 1)), { ...JSON_TYPE, ...CHUNKED }),
      413,
    );
    row.exactly("of it seen by the origin", origin.seen.length);
    const bomb = gzipSync(Buffer.alloc(200 * MB, " "));
    const before = residentMb();
    is("a gzip bomb, checked", await send("/image/txt2img", bomb, { ...JSON_TYPE, "content-encoding": "gzip" }), 400);
    is("a gzip bomb, through", await send("/any/x", bomb, { ...JSON_TYPE, "content-encoding": "gzip" }), 200);
    row.exactly("bytes of it at the origin", origin.taken().body.length, bomb.length);
    row.measured("memory grown by, MB", residentMb() - before, { ceiling: 100, digits: 0 });
    for (const length of ["-1", "1e3", "18446744073709551617"]) {
      const headers = { ...JSON_TYPE, "content-length": length };
      is(`Content-Length ${length}`, await door.ask("/any/x", { method: "POST", body: "hello", headers }), 400);
    }
    row.exactly("of these seen by the origin", origin.seen.length);
    // A request that cannot be sent on is not a failure of the card, and holds no slot of it.
    for (const method of ["GET", "HEAD"])
      is(`a body on ${method}`, await door.ask("/any/x", { method, body: "hello" }), 400);
    is("a head of 70 KB", await door.ask("/any/x", { json: {}, headers: { "x-own": "a".repeat(70_000) } }), 400);
    row.exactly("slots held in the end", await held());
  },
);

/** One unusual JSON member within an object. */
const ODD: Record<string, string> = {
  "10,000 deep": `"prompt":${"[".repeat(10_000)}${"]".repeat(10_000)}`,
  "100,000 deep": `"prompt":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`,
  "a key twice": '"seed":1,"seed":2',
  "a bounded key twice, the first too large": '"width":99999,"width":64',
  "a bounded key twice, the last too large": '"width":64,"width":99999',
  "an escaped key": '"wid\\u0074h":99999',
  "a prototype": '"__proto__":{"width":99999},"constructor":{"prototype":{"width":99999}}',
  "lone surrogates": '"prompt":"\\ud800","\\udc00":1',
  NaN: '"cfg_scale":NaN',
  "1e400": '"cfg_scale":1e400',
  "1e400, bounded": '"width":1e400',
  "minus nought": '"seed":-0',
  "a number of 10,000 digits": `"cfg_scale":${"9".repeat(10_000)}`,
  "a NUL": '"prompt":"\\u0000"',
  "a NUL as it is": '"prompt":"\0"',
  "an overlong sequence": '"prompt":"\xc0\xaf"',
  "60,000 keys": Array.from({ length: 60_000 }, (_, i) => `"k${i}":0`).join(","),
  "a comma too many": '"prompt":"a",',
  "a comment": '"prompt":"a"/**/',
};
/** Bodies that violate a rule must be refused, however they are spelled. */
const FORBIDDEN = new Set(["a bounded key twice, the last too large", "an escaped key", "1e400, bounded"]);

interface Sample {
  what: string;
  body: Buffer;
}

const around = (inner: string, after = "") => Buffer.from(`{${inner}}${after}`, "latin1");

function oddities(): Sample[] {
  const samples = Object.entries(ODD).map(([what, inner]) => ({ what, body: around(inner) }));
  samples.push({ what: "a byte order mark", body: Buffer.from('\ufeff{"seed":1}') });
  samples.push({ what: "two documents", body: around('"seed":1', "{}") });
  samples.push({ what: "UTF-16", body: Buffer.from('{"seed":1}', "utf16le") });
  samples.push({ what: "nothing but blanks", body: Buffer.from(" \r\n\t") });
  // The same, too large to be kept in memory: the streaming scanner checks them.
  const filling = Buffer.from(`"filling":"${"x".repeat(8.5 * 1024 * 1024)}",`);
  for (const [what, inner] of Object.entries(ODD))
    samples.push({
      what: `${what}, large`,
      body: Buffer.concat([Buffer.from("{"), filling, Buffer.from(`${inner}}`, "latin1")]),
    });
  return samples;
}

/** Arbitrary JSON, and JSON with one changed byte. */
function generated(): Sample[] {
  const texts = fc.sample(fc.json({ maxDepth: 6 }), { numRuns: 60, seed: 1 });
  const broken = fc.sample(fc.tuple(fc.json(), fc.nat(), fc.nat(255)), { numRuns: 60, seed: 2 });
  return [
    ...texts.map((text) => ({ what: text.slice(0, 60), body: Buffer.from(`{"prompt":"a","more":${text}}`) })),
    ...broken.map(([text, at, byte]) => {
      const body = Buffer.from(`{"prompt":"a","more":${text}}`);
      body[at % body.length] = byte;
      return { what: `byte ${byte} at ${at % body.length} of ${text.slice(0, 60)}`, body };
    }),
  ];
}

fault(
  {
    number: "36",
    injection:
      "JSON: 10,000 deep, keys twice, __proto__, lone surrogates, NaN, 1e400, BOM, 120 generated and broken texts; small, and beyond 8 MiB",
    expected: "400, or passed on unchanged; 0 x 500; what a rule forbids never gets through",
    limitMs: 120_000,
  },
  async (row) => {
    const figures = {
      changed: [] as string[],
      other: [] as string[],
      "forbidden but passed": [] as string[],
      "refused but seen": [] as string[],
    };
    const told = new Map<number, number>();
    for (const { what, body } of [...oddities(), ...generated()]) {
      for (const target of body.length > 1e6 ? ["/image/txt2img"] : ["/image/txt2img", "/any/x"]) {
        origin.seen.length = 0;
        const { status } = await send(target, body, { ...JSON_TYPE, "cache-control": "no-store" });
        told.set(status, (told.get(status) ?? 0) + 1);
        const where = `${what} (${status} ${target})`;
        if (status !== 200 && status !== 400) figures.other.push(where);
        if (status === 200 && !origin.taken().body.equals(body)) figures.changed.push(where);
        if (status === 400 && origin.seen.length > 0) figures["refused but seen"].push(where);
        if (status === 200 && target.startsWith("/image") && FORBIDDEN.has(what.replace(", large", "")))
          figures["forbidden but passed"].push(where);
      }
    }
    for (const [name, of] of Object.entries(figures))
      row.figure(name, of.length === 0 ? 0 : `${of.length}: ${of.slice(0, 5).join(", ")}`, of.length === 0);
    row.note([...told].map(([status, count]) => `${count} x ${status}`).join(", "));
  },
);
