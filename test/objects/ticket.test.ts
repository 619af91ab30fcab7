import { expect, test } from "vitest";
import { setReply, type TicketState } from "../../durable-objects/ticket-state.ts";
import { Ticket } from "../../durable-objects/ticket.ts";

/** Questions of a job that waits for a day, each for 20 s. */
const QUESTIONS = 4_320;
const LAST_WORD = { kind: "behind", version: 0 } as const;

function made() {
  const state = { reply: null, waiters: new Set(), holders: 0 } as unknown as TicketState;
  const times: (() => void)[] = [];
  let calledOff = 0;
  const desk = {
    after: (_ms: number, then: () => void) => {
      times.push(then);
      return () => void calledOff++;
    },
    waitingOn: () => ({ on: "slots_busy", position: 1 }),
    asked: () => undefined,
  };
  const ticket = new Ticket(state, desk as never);
  return { state, ticket, timeIsUp: () => times.pop()?.(), calledOff: () => calledOff };
}

test("a ticket that is asked again and again keeps nothing of questions whose time was up", async () => {
  const { state, ticket, timeIsUp, calledOff } = made();
  for (let i = 0; i < QUESTIONS; i++) {
    const asked = ticket.offer();
    timeIsUp();
    expect(await asked).toEqual({ kind: "waiting", on: "slots_busy", position: 1 });
  }
  const before = calledOff();
  const asked = ticket.offer();
  setReply(state, LAST_WORD);
  expect(await asked).toEqual(LAST_WORD);
  expect(calledOff() - before).toBe(1);
});

test("all who ask for a ticket's offer at the same time are told", async () => {
  const { state, ticket } = made();
  const asked = [ticket.offer(), ticket.offer()];
  setReply(state, LAST_WORD);
  expect(await Promise.all(asked)).toEqual([LAST_WORD, LAST_WORD]);
});
