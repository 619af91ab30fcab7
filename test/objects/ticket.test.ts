import { expect, test } from "vitest";
import { setReply, type TicketState } from "../../durable-objects/ticket-state.ts";
import { Ticket } from "../../durable-objects/ticket.ts";

/** The number of 20 s waits in a day. */
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

test("a ticket keeps no waiters of questions that timed out", async () => {
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

test("all concurrent callers of a ticket's offer get the reply", async () => {
  const { state, ticket } = made();
  const asked = [ticket.offer(), ticket.offer()];
  setReply(state, LAST_WORD);
  expect(await Promise.all(asked)).toEqual([LAST_WORD, LAST_WORD]);
});
