/** All cards fail at once: what callers are told, how soon, and how often the cards are tried. */
import type { FaultInput } from "../../sim/faults.ts";
import { refusal } from "../line/caller.ts";
import { openLine } from "../line/line.ts";
import { fault } from "./case.ts";
import { open, p, statuses } from "./crowd.ts";

const line = openLine();

fault(
  {
    number: "20",
    injection: "all cards refuse, then all answer 500, 40 requests/s for 5 s each",
    expected: "503 in < 1 s with Retry-After once they are out; <= 1.2 attempts at the cards per request",
  },
  async (row) => {
    const all = line.park.cards.map(({ card }) => card);
    for (const injected of [{ kind: "refuse" }, { kind: "status", status: 500 }] satisfies FaultInput[]) {
      line.park.setService({ service_ms: 300, jitter: 0.3 });
      const service = await line.service({ queue: { max: 1_000 } });
      const key = await line.key();
      for (const card of all) await line.park.setFault(card, injected);
      line.park.reset();
      const seen = await open({ line, service, key, perSecond: 40, warmUpMs: 0, windowMs: 5_000 });
      const took = seen.samples.map(({ sentAt, endedAt }) => endedAt - sentAt);
      row.note(`${injected.kind}: ${statuses(seen.samples)}`);
      const odd = seen.samples.filter(({ status }) => status !== 502 && status !== 503);
      row.exactly("other answers", odd.length);
      const bare = seen.samples.filter(
        ({ status, retryAfter }) => status === 503 && !(Number(retryAfter) >= 1 && Number(retryAfter) <= 30),
      );
      row.exactly("503 without a Retry-After of 1 to 30 s", bare.length);
      row.measured("p50, ms", p(0.5, took), { ceiling: 1_000, digits: 0 });
      row.measured("longest, ms", Math.max(...took), { ceiling: 5_000, digits: 0 });
      const late = await line.ask({ service, key });
      row.figure("in the end", refusal(late), refusal(late) === "503 no_healthy_card");
      const { starts } = line.park.counts();
      const tried = seen.samples.filter(({ status }) => status === 502).length;
      if (injected.kind === "status") {
        row.figure(
          "attempts per request",
          (starts / seen.samples.length).toFixed(2),
          starts / seen.samples.length <= 1.2,
        );
        row.note(
          `${starts} attempts, ${(starts / Math.max(1, tried)).toFixed(2)} for each that was not refused at once`,
        );
      }
      await line.park.heal();
    }
  },
);
