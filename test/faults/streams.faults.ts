/** Large answers and slow readers: memory stays bounded, and the origin is slowed down instead. */
import { createHash } from "node:crypto";
import { request } from "node:http";
import { Readable } from "node:stream";
import { afterAll, beforeAll } from "vitest";
import { doorway, targetOf } from "../contract/doorway.ts";
import { type Answering, listOrigin, Origin } from "../contract/origin.ts";
import { eventually, sleep } from "../line/caller.ts";
import { fault } from "./case.ts";
import { residentMb } from "./resident.ts";

const MIB = 1024 * 1024;
const READERS = 20;
const PIECES = 100;
/** A reader takes a piece, and then pauses for this long. */
const PAUSE_MS = 100;
const LOOK_EVERY_MS = 50;
/** The memory limit of an isolate; the local R2 runs in the same process, and takes as much again while it writes. */
const ISOLATE_MB = 128;
const STORING_MB = 2 * ISOLATE_MB;

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "films", { kind: "http", route: "/f/", queue: { max: 100 } }, { slots: READERS });
});
afterAll(() => origin.close());

const piece = Buffer.alloc(MIB, "a film of the sea ");

function* pieces(sent: { pieces: number }) {
  for (let i = 0; i < PIECES; i++) {
    sent.pieces++;
    yield piece;
  }
}

/** Sends as fast as the reader takes it; `sent` counts the pieces. */
const sends =
  (sent: { pieces: number }): Answering =>
  (res) => {
    res.writeHead(200, { "content-type": "video/mp4" });
    Readable.from(pieces(sent), { highWaterMark: 1 }).pipe(res);
  };

/** Reads slowly. Returns the digest of the body, and the id of the request. */
function readSlowly(
  target: string,
  method: string,
  key: string | null,
  more: Record<string, string> = {},
): Promise<{ digest: string; id: string }> {
  return new Promise((resolve, reject) => {
    const headers = key === null ? more : { authorization: `Bearer ${key}`, ...more };
    const sent = request(new URL(target, door.portico.url), { method, headers, agent: false }, (response) => {
      const hash = createHash("sha256");
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        hash.update(chunk);
        const before = Math.floor(bytes / MIB);
        bytes += chunk.length;
        if (Math.floor(bytes / MIB) === before) return;
        response.pause();
        setTimeout(() => response.resume(), PAUSE_MS);
      });
      response.on("end", () => resolve({ digest: hash.digest("hex"), id: String(response.headers["x-request-id"]) }));
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end();
  });
}

/** The largest growth of the runtime's memory during the work, in MB. */
async function grownBy(work: Promise<unknown>): Promise<number> {
  const before = residentMb();
  let most = before;
  const looking = setInterval(() => (most = Math.max(most, residentMb())), LOOK_EVERY_MS);
  await work.finally(() => clearInterval(looking));
  return most - before;
}

fault(
  {
    number: "23",
    injection: `${READERS} readers of ${PIECES} MiB each, who take a MiB in ${PAUSE_MS} ms: from the origin, and of a result`,
    expected: `every byte, memory below an isolate's ${ISOLATE_MB} MB, the origin is held back`,
    limitMs: 240_000,
  },
  async (row) => {
    const sent = { pieces: 0 };
    origin.answering = sends(sent);
    const hash = createHash("sha256");
    for (let i = 0; i < PIECES; i++) hash.update(piece);
    const digest = hash.digest("hex");
    const tenant = await door.tenant({ concurrent: READERS });
    const key = await door.key({ tenant });
    // One-time memory of the runtime is not counted.
    await readSlowly("/f/warm", "POST", key);
    const all = (more: Record<string, string> = {}) =>
      Promise.all(Array.from({ length: READERS }, () => readSlowly("/f/film", "POST", key, more)));
    sent.pieces = 0;
    const passing = all({ "cache-control": "no-store" });
    const passed = grownBy(passing);
    await sleep(2_000);
    row.measured("MiB that each origin had sent after 2 s", sent.pieces / READERS, { ceiling: 60, digits: 0 });
    row.measured("memory grown by, through, MB", await passed, { ceiling: ISOLATE_MB, digits: 0 });
    const keeping = all();
    const kept = grownBy(keeping);
    row.measured("memory grown by, kept beside, MB", await kept, { ceiling: STORING_MB, digits: 0 });
    const read = await keeping;
    const digests = [...(await passing), ...read];
    row.exactly("readers with other bytes", digests.filter((one) => one.digest !== digest).length);
    const became = async (id: string): Promise<{ state: string; results: { url: string; sha256: string }[] }> =>
      JSON.parse((await door.ask(`/v1/requests/${id}`, { key })).text);
    await eventually("all of them have ended", async () => {
      const states = await Promise.all(read.map(async ({ id }) => (await became(id)).state));
      return states.every((state) => state === "succeeded");
    });
    const results = (await Promise.all(read.map(({ id }) => became(id)))).flatMap((one) => one.results);
    row.note(`${results.length} of them found room to be kept`);
    row.exactly("kept with other bytes", results.filter(({ sha256 }) => sha256 !== digest).length);
    const [first] = results;
    row.figure("kept at all", results.length, first !== undefined);
    const target = targetOf(first?.url ?? "");
    const again = Promise.all(Array.from({ length: READERS }, () => readSlowly(target, "GET", null)));
    row.measured("memory grown by, of a result, MB", await grownBy(again), {
      most: ISOLATE_MB,
      ceiling: STORING_MB,
      digits: 0,
    });
    row.exactly("readers with other bytes of it", (await again).filter((one) => one.digest !== digest).length);
  },
);
