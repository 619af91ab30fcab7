/**
 * Faults that take effect before a request's body is read. On a route that runs, each counts as a failed run, because
 * the request did reach the card.
 */
import { JSON_TYPE, sendPage } from "./delivery.ts";
import type { Bench, Exchange, Route } from "./exchange.ts";
import type { Fault } from "./faults.ts";
import type { Work } from "./work.ts";

const WELCOME_PAGE = "<!DOCTYPE html>\n<html><body><p>It works!</p></body></html>\n";
const BROKEN = JSON.stringify({ detail: "Internal Server Error" });

/** Returns whether the fault has handled the request. */
export async function failAtDoor(
  bench: Bench,
  exchange: Exchange,
  fault: Fault,
  route: Route | null,
): Promise<boolean> {
  const { req, res } = exchange;
  const begin = (ms: number): Work | null => (route?.as === "run" ? bench.begin(exchange, { ms }) : null);
  if (fault.kind === "status" && (fault.at === "start" || route?.as !== "run")) {
    begin(0)?.end("fault");
    sendPage(exchange, fault.status, JSON_TYPE, fault.body ?? BROKEN);
  } else if (fault.kind === "not_json") {
    begin(0)?.end("fault");
    sendPage(exchange, 200, {}, fault.body ?? WELCOME_PAGE);
  } else if (fault.kind === "reset" && fault.at === "start") {
    begin(0)?.end("fault");
    req.socket.resetAndDestroy();
  } else if (fault.kind === "hang") {
    req.resume();
    const hung = begin(fault.busy_ms ?? Infinity);
    await (fault.busy_ms === undefined ? hung?.whenGone : hung?.until(fault.busy_ms));
    hung?.end("fault");
  } else return false;
  if (!res.destroyed) req.resume();
  return true;
}

/** Resets the connection in the middle of a run. Kills the run too, unless `goes_on`. */
export function breakLater(
  { req }: Exchange,
  work: Work,
  { after_ms, goes_on }: Extract<Fault, { kind: "reset" }>,
): void {
  const timer = setTimeout(() => {
    if (work.run.ended !== null) return;
    if (!goes_on) work.kill();
    req.socket.resetAndDestroy();
  }, after_ms);
  timer.unref();
}
