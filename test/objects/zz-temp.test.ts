import { expect, test } from "vitest";
import { fresh, reconfigure, UNCLEAN } from "./objects.ts";
import { type Caller, enterMany, makePool, start } from "./pools.ts";

test.each([1500, 4000])("%d followers", async (count) => {
  const pool = await makePool([{ slots: 1 }]);
  const busy = await start(pool);
  const callers = await enterMany(pool, count, { fingerprint: fresh("print"), waiting: 100_000 });
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  await reconfigure(card, { state: "disabled" });
  const replies = await Promise.all(callers.map((caller: Caller) => caller.reply()));
  expect(replies.filter((reply) => reply.kind === "refused")).toHaveLength(count);
  expect(await pool.stub.status()).toMatchObject({ queued: 0, refused: { no_healthy_card: count } });
  await busy.end(UNCLEAN);
}, 60_000);
