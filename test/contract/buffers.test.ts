/** An isolate frees its buffers when callers hang up at any stage, so that no later request is refused for them. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, test } from "vitest";
import { bytesOf, RawCall } from "../support/raw.ts";
import { doorway, expectOk } from "./doorway.ts";
import { answerImage, listAny, Origin } from "./origin.ts";

/** Several such bodies and their copies exceed an isolate's memory. */
const LARGE_BYTES = 7_000_000;
const CALLERS = 20;
const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listAny(door, origin);
});
afterAll(() => origin.close());

const headers = (more: Record<string, string> = {}) => ({
  authorization: `Bearer ${door.ownKey}`,
  "content-type": "application/octet-stream",
  ...more,
});

/** Sends one large body at a time, so that only leftovers of callers that hung up can be in its way. */
async function expectRoom(): Promise<void> {
  origin.answering = answerImage;
  for (let i = 0; i < 3; i++) {
    expectOk(await door.ask("/any/run", { body: Buffer.alloc(LARGE_BYTES), headers: headers() }));
  }
}

test("callers that hang up while sending their body leave nothing in the buffers", async () => {
  for (let i = 0; i < CALLERS; i++) {
    const call = await RawCall.open(door.portico.url);
    const declared = headers({ "content-length": String(LARGE_BYTES) });
    call.send(
      bytesOf(call.host, {
        method: "POST",
        target: "/any/run",
        headers: declared,
        body: Buffer.alloc(LARGE_BYTES - 1),
      }),
    );
    await sleep(150);
    call.reset();
  }
  await sleep(300);
  await expectRoom();
});

test("callers that hang up in line leave nothing in the buffers", async () => {
  await door.portico.admin("PATCH", "/cards/any-card", { slots: 1 });
  const held = Promise.withResolvers<void>();
  origin.answering = (res) => void held.promise.then(() => res.end("done"));
  const running = door.ask("/any/run", { body: "x", headers: headers() });
  for (let i = 0; i < CALLERS; i++) {
    const call = await RawCall.open(door.portico.url);
    call.send(
      bytesOf(call.host, { method: "POST", target: "/any/run", headers: headers(), body: Buffer.alloc(LARGE_BYTES) }),
    );
    await sleep(150);
    call.reset();
  }
  held.resolve();
  expectOk(await running);
  await expectRoom();
});

test("callers that hang up during a long answer that is not stored leave nothing in the buffers", async () => {
  origin.answering = (res) => {
    res.setHeader("content-type", "application/octet-stream");
    res.write(Buffer.alloc(LARGE_BYTES));
  };
  for (let i = 0; i < CALLERS; i++) {
    const call = await RawCall.open(door.portico.url);
    call.send(bytesOf(call.host, { target: "/any/read", headers: headers() }));
    await call.head();
    await sleep(150);
    call.reset();
  }
  await sleep(300);
  await expectRoom();
});
