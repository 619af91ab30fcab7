/** The wall clock steps. The Card's core gets its clock as an argument, so that no machine's clock has to be set. */
import { LEASE_RENEW_MS } from "../../durable-objects/card-protocol.ts";
import { Slots } from "../../durable-objects/slots.ts";
import { fault, type Seen as Row } from "./case.ts";
import { attemptOf } from "./objects.ts";

/** Two slots whose holders renew in time, while the clock steps. */
function stepped(row: Row, byMs: number): void {
  const slots = new Slots();
  let now = Date.UTC(2026, 0, 19);
  const attempts = ["att_a", "att_b"].map((attempt) => attemptOf(attempt, "any"));
  const leases = attempts.map((attempt) => slots.claim(attempt, 2, 60_000, now));
  let lost = 0;
  for (let i = 0; i < 12; i++) {
    now += LEASE_RENEW_MS;
    if (i === 4) now += byMs;
    slots.reap(now);
    lost += slots.held.filter(({ state }) => state !== "leased").length;
    for (const [at, claimed] of leases.entries()) {
      if ("no" in claimed) throw new Error(claimed.no);
      if (!slots.renew(claimed.lease.number, attempts[at]?.attempt ?? "", now).reply.renewed) lost++;
    }
    if (!("no" in slots.claim(attemptOf(`att_more_${i}`, "any"), 2, 60_000, now))) lost++;
  }
  row.exactly(`${byMs > 0 ? "+" : "-"}1 h: leases lost or given twice`, lost);
}

fault(
  {
    number: "12",
    injection:
      "the wall clock steps by an hour, forth and back, under two runs (the Card's own core, clock handed in: no faketime here; all interleavings in test/pure/slots.test.ts)",
    expected: "no mass expiry, 0 over",
  },
  async (row) => {
    for (const byMs of [3_600_000, -3_600_000]) stepped(row, byMs);
  },
);
