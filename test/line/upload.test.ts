import { expect, test } from "vitest";
import { bytesOf, RawCall } from "../support/raw.ts";
import { eventually, sleep } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

/** Cards are ejected after one failure, so that a failure wrongly blamed on them shows. */
const SENSITIVE = { breaker: { max_fails: 1, fail_timeout_s: 60 }, retry: { tries: 1 }, bounds: {}, forbid: [] };
const line = openLine({ park: { servers: 1, gpus: 1 } });
const MIB = 1024 * 1024;

/** Sends the head of a request and the first half of its body. */
async function halfSent(service: Service, key: string, bodyBytes: number): Promise<{ call: RawCall; rest: Buffer }> {
  const call = await RawCall.open(line.portico.url);
  const body = JSON.stringify({ prompt: "half sent", width: 32, height: 32, steps: 1, filler: "f".repeat(bodyBytes) });
  const bytes = bytesOf(call.host, {
    method: "POST",
    target: service.path,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body,
  });
  const half = bytes.length - Math.floor(bodyBytes / 2);
  call.send(bytes.subarray(0, half));
  return { call, rest: bytes.subarray(half) };
}

test("a request that is kept in memory takes no slot before its body is complete", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  const { call, rest } = await halfSent(service, key, 64 * 1024);
  await sleep(1_500);
  expect(await line.leases()).toEqual([]);
  call.send(rest);
  expect((await call.answer()).status).toBe(200);
});

test("a caller that hangs up during a large body does not count as a failure of the card", async () => {
  const service = await line.service(SENSITIVE);
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  for (let i = 0; i < 3; i++) {
    const { call } = await halfSent(service, key, 9 * MIB);
    await eventually("it holds a slot", async () => (await line.leases()).length === 1);
    call.reset();
    await line.conserved();
  }
  expect((await line.ask({ service, key })).status).toBe(200);
});

test("a caller that stops sending a large body does not count as a card's failure, and the slot is freed", async () => {
  const service = await line.service({ ...SENSITIVE, timeouts: { read_s: 2 } });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  const { call } = await halfSent(service, key, 9 * MIB);
  const answer = await call.answer();
  expect(answer.status).toBeGreaterThanOrEqual(400);
  await line.conserved();
  expect((await line.ask({ service, key })).status).toBe(200);
});

test("when a caller hangs up during a chunked body, no card runs the incomplete request", async () => {
  const service = await line.service(SENSITIVE, { kind: "tts" });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  const whole = Buffer.from(JSON.stringify({ text: "half said", format: "wav" }));
  const filling = Buffer.alloc(9 * MIB, " ");
  for (const how of ["reset", "end"] as const) {
    const call = await RawCall.open(line.portico.url);
    const headers = {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      "transfer-encoding": "chunked",
    };
    call.send(bytesOf(call.host, { method: "POST", target: service.path, headers }));
    for (const piece of [whole, filling])
      call.send(Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]));
    await eventually("it holds a slot", async () => (await line.leases()).length === 1);
    call[how]();
    await line.conserved();
  }
  expect(line.park.counts().starts).toBe(0);
});

test("a large body that takes longer than read_s to send does not count as silence of the card", async () => {
  const service = await line.service({ ...SENSITIVE, timeouts: { read_s: 3 } });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  const { call, rest } = await halfSent(service, key, 12 * MIB);
  const answered = call.answer();
  for (let at = 0; at < rest.length; at += MIB) {
    await sleep(700);
    call.send(rest.subarray(at, at + MIB));
  }
  expect((await answered).status).toBe(200);
});
