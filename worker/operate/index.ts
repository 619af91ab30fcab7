/** Calls for operators and monitors that need no credential, and the description of the whole API. Mounted at `/`. */
import { type Context, Hono } from "hono";
import { park } from "../db/list-queries.ts";
import { renderRefusal } from "../dialects/native.ts";
import type { Env } from "../env.ts";
import { openApiDocument } from "../openapi/index.ts";
import { notAllowed } from "../refusal.ts";
import type { App } from "../trace.ts";
import { clusterStatus } from "./cluster.ts";
import { docsPage } from "./docs.ts";
import { cardStatuses, poolStatuses } from "./live.ts";
import { readiness } from "./ready.ts";
import { recent } from "./recent.ts";

/** The contract's "at most a second old". */
const FRESH_MS = 1_000;

const recentReadiness = recent(FRESH_MS, readiness);
const recentStatus = recent(FRESH_MS, gatherStatus);

async function gatherStatus(env: Env) {
  const now = Date.now();
  const known = await park(env);
  const cards = known.cards.filter((card) => card.state !== "disabled").map((card) => card.id);
  const [cardsSay, poolsSay] = await Promise.all([cardStatuses(env, cards), poolStatuses(env, known.services)]);
  return clusterStatus(known, cardsSay, poolsSay, now);
}

const CALLS: Record<string, (c: Context<App>) => Response | Promise<Response>> = {
  // Calls nothing else: it shows only that the Worker answers.
  "/health": () => new Response("healthy\n", { headers: { "content-type": "text/plain; charset=utf-8" } }),
  "/ready": async (c) => {
    const ready = await recentReadiness(c.env);
    return Response.json(ready, { status: ready.status === "ready" ? 200 : 503 });
  },
  "/cluster/status": async (c) => Response.json(await recentStatus(c.env)),
  "/openapi.json": () => Response.json(openApiDocument()),
  "/docs": () => docsPage(),
};

export const operateApp = new Hono<App>();

for (const [path, answer] of Object.entries(CALLS)) {
  operateApp.get(path, answer);
  operateApp.all(path, (c) => renderRefusal(notAllowed(c.req.method, "GET, HEAD"), c.get("trace")));
}
