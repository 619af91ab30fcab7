/** The answer cache: no caller gets another tenant's answer or a poisoned one; and ranges of stored results. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll } from "vitest";
import { doorway, linksOf, picture, type Sent, targetOf } from "../contract/doorway.ts";
import { type Answering, listOrigin, Origin, PNG } from "../contract/origin.ts";
import type { Answer } from "../support/raw.ts";
import { fault } from "./case.ts";

/** Deployed as the README says: without PUBLIC_URL, `X-Forwarded-Host` is whatever Host the caller sends. */
const door = doorway({ vars: { PUBLIC_URL: "http://127.0.0.1:8787" } });
let origin: Origin;
let seed = 1_000;

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "own", { kind: "image", route: "/own/" });
  await listOrigin(door, origin, "shared", {
    kind: "image",
    route: "/shared/",
    cache: { enabled: true, ttl_s: 600, shared: true },
  });
});
afterAll(() => origin.close());

/** An origin that echoes everything it receives: anything in it that is not in the key could be another caller's. */
const answerAll: Answering = (res, { target, headers, body }) => {
  res.setHeader("content-type", "application/json");
  const said = headers.map(([name, value]) => `${name}: ${value}`).join("\n");
  res.end(JSON.stringify({ images: [PNG], info: { target, said, body: body.toString() } }));
};

const isHit = (answer: Answer) => (answer.header("cache-status") ?? "").startsWith("portico; hit");
const paint = (target: string, json: object, sent: Sent = {}) =>
  door.ask(target, { json: picture({ ...json }), ...sent });

/** Headers that are not sent to the origin of a cacheable request, or that separate answers; each with a marker. */
const UNKEYED: Record<string, string> = {
  host: "poison.example",
  "x-forwarded-host": "poison.example",
  "x-forwarded-scheme": "poison",
  "x-forwarded-proto": "poison",
  "x-forwarded-for": "poison",
  "x-forwarded-port": "66",
  forwarded: "host=poison",
  "x-original-url": "/poison",
  "x-rewrite-url": "/poison",
  "x-http-method-override": "POISON",
  "x-host": "poison.example",
  "true-client-ip": "poison",
  "cf-connecting-ip": "poison",
  accept: "poison/*",
  "accept-language": "poison",
  "accept-encoding": "poison",
  "user-agent": "poison",
  origin: "http://poison.example",
  referer: "http://poison.example",
  cookie: "poison=1",
  range: "bytes=0-5",
  "if-none-match": '"poison"',
  "x-request-id": "poison",
  "x-client-request-id": "poison",
  "x-portico-lease": "poison",
  "x-portico-card": "poison",
  via: "1.1 poison",
  te: "poison",
  "content-language": "poison",
  "content-encoding": "identity",
  "x-anything": "poison",
};

fault(
  {
    number: "37",
    injection: `${Object.keys(UNKEYED).length} headers that are in no key, with an own and a shared store, PUBLIC_URL set; spellings of path, query and host; another tenant`,
    expected: "no cross-tenant hit ever; no bent answer is ever served to a plain request",
    limitMs: 90_000,
  },
  async (row) => {
    origin.answering = answerAll;
    const other = await door.key();
    const figures = {
      "bent answers served": [] as string[],
      "another's answer served": [] as string[],
      "false hits": [] as string[],
    };
    let hits = 0;
    for (const [name, value] of Object.entries(UNKEYED)) {
      for (const service of ["own", "shared"]) {
        const asked = { seed: (seed += 1) };
        const bent = await paint(`/${service}/txt2img`, asked, { headers: { [name]: value } });
        const plain = await paint(`/${service}/txt2img`, asked);
        const others = await paint(`/${service}/txt2img`, asked, { key: other });
        const where = `${name} (${service}, ${bent.status})`;
        if (isHit(plain)) hits++;
        // The marker may be in an answer made for its sender, but never in one served to another.
        for (const answer of [plain, others])
          if (/poison|: 66/i.test(answer.text)) figures["bent answers served"].push(where);
        if (service === "own" && isHit(others)) figures["another's answer served"].push(where);
      }
    }
    const base = { seed: (seed += 1), prompt: "the harbour" };
    const first = await paint("/own/txt2img?a=1&a=2", base);
    if (isHit(first)) figures["false hits"].push("the first");
    const variants: [string, Sent | undefined][] = [
      ["/own/txt2img", undefined],
      ["/own/txt2img?a=2&a=1", undefined],
      ["/own/txt2img?a=1", undefined],
      ["/own/txt2img?a=1&a=2&", undefined],
      ["/own/txt2img?A=1&a=2", undefined],
      ["/own/txt2img?a=1%26a=2", undefined],
      ["/own/img2img?a=1&a=2", undefined],
      ["/shared/txt2img?a=1&a=2", undefined],
      ["/own/TXT2IMG?a=1&a=2", undefined],
      ["/own/txt2img/?a=1&a=2", undefined],
      ["/own/%2ftxt2img?a=1&a=2", undefined],
      ["/own//txt2img?a=1&a=2", undefined],
      ["/own/./txt2img?a=1&a=2", undefined],
      ["/own/x/../txt2img?a=1&a=2", undefined],
      ["/own/txt2img;a=b?a=1&a=2", undefined],
      ["/own/txt2img?a=1&a=2", { key: other }],
      ["/own/txt2img?a=1&a=2", { headers: { "content-type": "application/json; charset=utf-16" } }],
    ];
    for (const [target, sent] of variants) {
      const answer = await paint(target, base, sent);
      if (isHit(answer)) figures["false hits"].push(`${target} ${JSON.stringify(sent ?? {})}`);
    }
    const dot = new URL(door.portico.url);
    const dotted = await paint("/own/txt2img?a=1&a=2", base, {
      headers: { host: `localhost.:${dot.port}` },
      key: other,
    });
    if (isHit(dotted) && dotted.text === first.text) figures["another's answer served"].push("a trailing dot");
    for (const [name, of] of Object.entries(figures))
      row.figure(name, of.length === 0 ? 0 : `${of.length}: ${of.join(", ")}`, of.length === 0);
    row.note(`${hits} plain requests hit what the bent one had stored`);
  },
);

fault(
  {
    number: "38",
    injection: "Range of a result: bytes=0-0, -1, 5-2, 1,000 ranges, odd ones; If-Range strong, weak, a date",
    expected: "206, 206, 416 or 200, 200; If-Range strong only; never other bytes",
  },
  async (row) => {
    const [link = ""] = linksOf(await door.paint());
    const whole = await door.ask(targetOf(link));
    const etag = whole.header("etag") ?? "";
    const [length, last] = [whole.body.length, whole.body.length - 1];
    const ranged = (range: string, more: Record<string, string> = {}) =>
      door.ask(targetOf(link), { headers: { range, ...more } });
    let wrong = 0;
    const check = async (what: string, answer: Answer, allowed: number[]): Promise<void> => {
      const [, from, to] = /^bytes (\d+)-(\d+)\/\d+$/.exec(answer.header("content-range") ?? "") ?? [];
      const expected = answer.status === 206 ? whole.body.subarray(Number(from), Number(to) + 1) : whole.body;
      if (answer.status !== 416 && !answer.body.equals(expected)) wrong++;
      row.figure(what, answer.status, allowed.includes(answer.status));
    };
    await check("0-0", await ranged("bytes=0-0"), [206]);
    await check("-1", await ranged("bytes=-1"), [206]);
    await check("5-2", await ranged("bytes=5-2"), [416, 200]);
    await check(
      "1,000 ranges",
      await ranged(`bytes=${Array.from({ length: 1_000 }, (_, i) => `${i}-${i}`).join(",")}`),
      [200],
    );
    await check("to beyond the end", await ranged(`bytes=${last}-999999999999999999999`), [206, 416]);
    await check("beyond the end", await ranged(`bytes=${length}-`), [416]);
    for (const odd of [
      "bytes=",
      "bytes=-",
      "bytes=--1",
      "bytes=-0",
      "bytes= 0 - 0",
      "bytes=0-0,",
      "bytes=1e0-2",
      "chunks=0-0",
      "bytes=0-0-0",
    ])
      await check(`"${odd}"`, await ranged(odd), [200, 206, 416]);
    await check("If-Range strong", await ranged("bytes=0-0", { "if-range": etag }), [206]);
    await check("weak", await ranged("bytes=0-0", { "if-range": `W/${etag}` }), [200]);
    await check("another", await ranged("bytes=0-0", { "if-range": '"other"' }), [200]);
    await check("an old date", await ranged("bytes=0-0", { "if-range": "Thu, 01 Jan 1998 00:00:00 GMT" }), [200]);
    row.exactly("wrong bytes", wrong);
    const digest = createHash("sha256").update(whole.body).digest("hex");
    row.figure("the whole afterwards", etag.includes(digest) ? "itself" : "changed", etag.includes(digest));
  },
);
