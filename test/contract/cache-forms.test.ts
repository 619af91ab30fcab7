/** Multipart forms that servers may parse differently. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk } from "./doorway.ts";
import { listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;
let sounds = 0;

beforeAll(async () => {
  origin = await Origin.open();
  origin.answering = (res) => {
    const sound = Buffer.alloc(60, ++sounds);
    sound.write("RIFF", 0, "latin1");
    sound.writeUInt32LE(52, 4);
    sound.write("WAVEfmt ", 8, "latin1");
    sound.writeUInt32LE(16, 16);
    sound.write("data", 36, "latin1");
    sound.writeUInt32LE(16, 40);
    res.writeHead(200, { "content-type": "audio/wav", "content-length": sound.length }).end(sound);
  };
  await listOrigin(door, origin, "forms", { kind: "tts", route: "/forms/", cache: { shared: true } });
});
afterAll(() => origin.close());

const part = (name: string, value: string, head = "") =>
  `--b\r\nContent-Disposition: form-data; name="${name}"${head}\r\n\r\n${value}\r\n`;

async function say(parts: string[], key = door.ownKey): Promise<Answer> {
  const body = Buffer.from(`${parts.join("")}--b--\r\n`, "latin1");
  const headers = { "content-type": "multipart/form-data; boundary=b" };
  return door.ask("/forms/inference_sft", { body, headers, key });
}

test("texts that are not UTF-8 have different cache keys", async () => {
  const [you, me] = ["\xc4\xe3", "\xce\xd2"];
  for (const text of [you, me]) expectOk(await say([part("tts_text", text)]));
  expect(origin.seen.splice(0)).toHaveLength(2);
  expect((await say([part("tts_text", me)])).header("cache-status")).toContain("hit");
  expect(origin.seen.splice(0)).toHaveLength(0);
});

test("a part with two names neither bypasses a bound nor answers another tenant's request", async () => {
  const twice = [part("tts_text", "hello"), part("speed", "1", '\r\nContent-Disposition: form-data; name="ignored"')];
  const refused = await say(twice);
  expect([refused.status, errorOf(refused).param]).toEqual([400, "body"]);
  const long = part("other", "x".repeat(6_000), '\r\nContent-Disposition: form-data; name="tts_text"');
  expect((await say([long])).status).toBe(400);
  expect(origin.seen).toHaveLength(0);
  const plain = [part("tts_text", "hello"), part("speed", "1")];
  expect(expectOk(await say(plain, await door.key())).header("cache-status")).toContain("stored");
});
