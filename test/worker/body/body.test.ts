import { afterEach, expect, test, vi } from "vitest";
import { readBody } from "../../../worker/body/body.ts";
import { Room } from "../../../worker/body/buffers.ts";
import { isRefusal } from "../../../worker/refusal.ts";
import { detailText } from "../../../worker/details.ts";

const MOST = 96 * 1024 * 1024;

afterEach(() => vi.useRealTimers());

/** A body of `pieces` one-byte pieces, each of which takes `pauseMs`. */
function trickle(pieces: number, pauseMs: number): Request {
  let sent = 0;
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    vi.setSystemTime(Date.now() + pauseMs);
    if (sent++ === pieces) controller.close();
    else controller.enqueue(Uint8Array.of(0x20));
  };
  return new Request("https://portico.example/", { method: "POST", body: new ReadableStream({ pull }) });
}

async function came(request: Request): Promise<string> {
  const body = await readBody(request, { max: 1_000 });
  if (isRefusal(body)) return `${body.reason} ${body.param} ${detailText(body.facts, "en")}`;
  if (body.kind === "bytes") body.room.free();
  return body.kind;
}

test("a body that trickles in is refused after 300 s, and frees its buffers", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  expect(await came(trickle(10, 29_000))).toBe("bytes");
  expect(await came(trickle(100, 29_000))).toBe("invalid_field body did not arrive within 300 s");
  expect(new Room().grow(MOST)).toBe(true);
});
