/** Section 5: what is not what it says to be is handed on, and never kept. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { doorway, expectOk, linksOf } from "./doorway.ts";
import { listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "odd", { kind: "tts", route: "/odd/" });
});
afterAll(() => origin.close());

const RIFF = Buffer.from("RIFF\x00\x00\x00\x00WAVE", "latin1");
const CASES: [what: string, type: string, body: Buffer][] = [
  ["nothing", "audio/wav", Buffer.alloc(0)],
  ["the first bytes of a sound", "audio/wav", RIFF.subarray(0, 11)],
  ["an error as a sound", "audio/wav", Buffer.from('{"error":"CUDA out of memory"}')],
  ["a page as a picture", "image/png", Buffer.from("<html>Bad Gateway</html>")],
];
for (const [what, type, body] of CASES) {
  test(`${what} as ${type} is no result, and runs again`, async () => {
    origin.answering = (res) => res.writeHead(200, { "content-type": type, "content-length": body.length }).end(body);
    const before = origin.seen.length;
    for (let i = 0; i < 2; i++) {
      const answer = expectOk(await door.ask("/odd/audio-generate", { json: { text: what } }));
      expect(answer.header("cache-status")).not.toMatch(/hit|stored/);
      expect(linksOf(answer)).toEqual([]);
    }
    expect(origin.seen.length - before).toBe(2);
  });
}
