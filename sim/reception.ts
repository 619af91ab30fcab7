/**
 * Handles a request to a card: (1) its head is recorded; (2) the tunnel's token is checked; (3) faults before the card
 * and before the body; (4) the route; (5) the body; (6) the route's handler, which starts the run.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { COSYVOICE_ROUTES } from "./cosyvoice.ts";
import { JSON_TYPE, sendPage, turnAway } from "./delivery.ts";
import { failAtDoor } from "./door.ts";
import { readUpload } from "./exchange.ts";
import type { Bench, Exchange, Route } from "./exchange.ts";
import type { Fault } from "./faults.ts";
import { answerOnTheWay, carriesToken, sendDenied } from "./tunnel.ts";
import type { ServiceToken } from "./tunnel.ts";
import { WEBUI_ROUTES } from "./webui.ts";

const ROUTES: readonly Route[] = [...WEBUI_ROUTES, ...COSYVOICE_ROUTES];
/** What may precede a route: plain segments, none of them `.` or `..`. */
const PREFIX = /^(\/(?!\.\.?(\/|$))[\w.~-]+)*$/;

export interface Reception extends Bench {
  readonly token: ServiceToken | null;
  record(req: IncomingMessage): void;
  /** Returns the fault for a request to this path, or null, and uses up one of its `times`. */
  takeFault(path: string): Fault | null;
}

/** The route that a path ends in; anything before it is the origin's own prefix. */
export function routeOf(path: string): Route | null {
  return ROUTES.find(({ tail }) => path.endsWith(tail) && PREFIX.test(path.slice(0, -tail.length))) ?? null;
}

export async function receive(card: Reception, req: IncomingMessage, res: ServerResponse): Promise<void> {
  card.record(req); // (1)
  const [path = "", query = ""] = (req.url ?? "").split(/\?(.*)/s, 2);
  const plain = { req, res, path, query: new URLSearchParams(query), fault: null };
  try {
    if (card.token && !carriesToken(req.headers, card.token)) {
      card.refuse(); // (2)
      return sendDenied(plain, card.token.deny);
    }
    await answer(card, { ...plain, fault: card.takeFault(path) });
  } catch (error) {
    const shown = error instanceof Error ? error.stack : String(error);
    process.stderr.write(`${card.card} ${path}: ${shown}\n`);
    if (res.headersSent) res.destroy();
    else sendPage(plain, 500, JSON_TYPE, JSON.stringify({ detail: "Internal Server Error" }));
  }
}

async function answer(card: Reception, exchange: Exchange): Promise<void> {
  const { req, res, path, fault } = exchange;
  const route = routeOf(path); // (4), looked up first: a fault on a route that runs counts as a failed run
  if (fault && answerOnTheWay(exchange, fault)) return card.refuse(); // (3)
  if (fault && (await failAtDoor(card, exchange, fault, route))) return;
  if (!route) return turnAway(card, exchange, 404, "Not Found");
  if (!route.methods.includes(req.method ?? "")) {
    res.setHeader("allow", route.methods.join(", "));
    return turnAway(card, exchange, 405, "Method Not Allowed");
  }
  const upload = await readUpload(req); // (5)
  if (upload === "large") {
    card.refuse();
    const detail = JSON.stringify({ detail: "Request Entity Too Large" });
    return sendPage(exchange, 413, { ...JSON_TYPE, connection: "close" }, detail);
  }
  if (upload) await route.handle(card, exchange, upload); // (6)
}
