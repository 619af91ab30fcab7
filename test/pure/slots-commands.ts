/** The calls on a card's slots as fast-check commands: each does the same to the slots and to their model. */
import * as fc from "fast-check";
import type { Slots } from "../../durable-objects/slots.ts";
import { expectSame } from "./same.ts";
import { attempt, CLEAN, held, lapse, type SlotsModel, UNCLEAN } from "./slots-model.ts";

type Call = fc.Command<SlotsModel, Slots>;

/** Few attempts and numbers, so that repeated, stale, foreign and unknown ones occur all the time. */
const names = fc.integer({ min: 1, max: 9 }).map((i) => `attempt ${i}`);
const numbers = fc.integer({ min: -1, max: 12 });
const services = fc.constantFrom("portrait", "speech");
const drains = fc.constantFrom(1_000, 60_000, 300_000);
/** Short enough to stay within a lease, or long enough to end it. */
const pauses = fc.oneof(fc.integer({ min: 0, max: 12_000 }), fc.constantFrom(39_999, 40_000, 60_000, 400_000));

function call(name: string, run: (model: SlotsModel, slots: Slots) => void): Call {
  return {
    check: () => true,
    run(model, slots) {
      run(model, slots);
      expectSame(held(slots), model.shown());
    },
    toString: () => name,
  };
}

const claims = fc.tuple(names, services, drains).map(([name, service, drainMaxMs]) =>
  call(`claim(${name})`, (model, slots) => {
    const asked = attempt(name, service);
    const expected = model.claim(asked, drainMaxMs);
    const outcome = slots.claim(asked, model.slots, drainMaxMs, model.now);
    expectSame("no" in outcome ? outcome.no : outcome.lease.number, expected);
  }),
);

const renewals = fc.tuple(numbers, names).map(([number, name]) =>
  call(`renew(${number}, ${name})`, (model, slots) => {
    const expected = model.renew(number, name);
    expectSame(slots.renew(number, name, model.now).reply.renewed, expected);
  }),
);

const releases = fc.tuple(numbers, names, fc.boolean()).map(([number, name, clean]) =>
  call(`release(${number}, ${name}, ${clean ? "clean" : "unclean"})`, (model, slots) => {
    const expected = model.release(number, name, clean);
    expectSame(slots.release(number, name, clean ? CLEAN : UNCLEAN, model.now).reply, expected);
  }),
);

/** The holder's own calls, which do not depend on guessing its number. */
const ownCalls = fc
  .tuple(fc.nat({ max: 20 }), fc.constantFrom("renew", "clean", "unclean", "vanish"))
  .map(([pick, what]) =>
    call(`${what} of held ${pick}`, (model, slots) => {
      const lease = model.held[pick % Math.max(1, model.held.length)];
      if (lease === undefined) return;
      const { number, attempt: name } = lease;
      if (what === "renew") {
        const expected = model.renew(number, name);
        expectSame(slots.renew(number, name, model.now).reply.renewed, expected);
      } else if (what === "vanish") {
        model.vanish(number);
        slots.vanish(number, model.now);
      } else {
        const expected = model.release(number, name, what === "clean");
        expectSame(slots.release(number, name, what === "clean" ? CLEAN : UNCLEAN, model.now).reply, expected);
      }
    }),
  );

const vanishings = numbers.map((number) =>
  call(`vanish(${number})`, (model, slots) => {
    model.vanish(number);
    slots.vanish(number, model.now);
  }),
);

const reports = fc.tuple(fc.integer({ min: 0, max: 4 }), fc.option(services)).map(([running, service]) =>
  call(`hear(${running}, ${service})`, (model, slots) => {
    model.hear(running, service);
    slots.applyReport(running, service);
  }),
);

const pauseCalls = pauses.map((ms) =>
  call(`lapse(${ms})`, (model, slots) => {
    lapse(slots, model.now, ms);
    model.lapse(ms);
  }),
);

export const slotCalls = [claims, claims, ownCalls, ownCalls, renewals, releases, vanishings, reports, pauseCalls];
