/**
 * The admin calls of cards: settings, live state, agent tokens, and heartbeats. A card is one GPU, wherever it is
 * listed.
 */
import { z } from "zod";
import type { CardStatus, BreakerState } from "../../durable-objects/card-protocol.ts";
import { deleteCard, patchCard, setCardToken } from "../db/admin-queries.ts";
import { cardById, listingsOf, pageOfCards } from "../db/list-queries.ts";
import type { CardRow, ListingRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { cardStatuses } from "../operate/live.ts";
import { isRefusal, refuse, type Refusal } from "../refusal.ts";
import { provisionCards } from "../services/provision.ts";
import { CardPatch, HeartbeatBody } from "../services/service.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { announce } from "./announce.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { cardSettings } from "./listings.ts";
import { makeCardToken } from "./operator.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { CardView, cardView } from "./views.ts";
import { iso, Time } from "../api/time.ts";

const GateView = z.object({
  state: z.enum(["closed", "open", "half_open", "trial"]),
  until_at: Time.nullable(),
  reason: z.string().nullable(),
});

const LiveView = z.object({
  in_use: z.int().meta({ description: "Leased and draining slots." }),
  running: z.int().meta({ description: "Leased slots." }),
  gates: z.record(z.string(), GateView).meta({
    description:
      "Circuit breaker per service. closed: takes work; open: takes none; half_open: one trial request is allowed; trial: the trial request is running.",
  }),
  heartbeat: z
    .object({
      gpu_memory_ratio: z.number().nullable(),
      gpu_utilization: z.number().nullable(),
      running: z.int().nullable(),
      at: Time,
    })
    .nullable(),
  counters: z.record(z.string(), z.int()).meta({
    description:
      "Always: claims = done + failed + orphaned + running. reaped: leases that expired without renewal; refused: claims that were refused; drained: draining slots that became free; late and stale: calls from holders that no longer held a slot.",
  }),
});

const LiveCardView = z
  .object({
    ...CardView.shape,
    live: LiveView.nullable().meta({ description: "Null: the card's Durable Object did not answer in time." }),
  })
  .meta({ id: "LiveCardView" });

const TokenView = z.object({ id: z.string(), token: z.string().meta({ description: "Shown only once." }) });

/** `Retry-After` of a deletion while a slot is held. */
const BUSY_RETRY_MS = 5_000;

const tag = "Cards";
type Named<B> = Call<B, unknown, "card">;

export const cardRoutes: Route[] = [
  route({
    method: "GET",
    path: "/v1/cards",
    role: "read",
    tag,
    summary: "List cards with their live state",
    query: PageQuery,
    answers: { 200: { description: "Cards by id.", schema: listOf(LiveCardView) } },
    run: ({ env, query }) => list(env, query),
  }),
  route({
    method: "GET",
    path: "/v1/cards/{card}",
    role: "read",
    tag,
    summary: "Show a card with its live state",
    answers: { 200: { description: "The card.", schema: LiveCardView } },
    run: ({ env, params }) => show(env, params.card),
  }),
  route({
    method: "PATCH",
    path: "/v1/cards/{card}",
    role: "ops",
    tag,
    summary: "Change a card in all its listings",
    description: "A draining or disabled card gets no new work; work that is running on it ends normally.",
    body: CardPatch,
    answers: { 200: { description: "The card.", schema: CardView } },
    run: (call) => attempt(() => patch(call)),
  }),
  route({
    method: "DELETE",
    path: "/v1/cards/{card}",
    role: "admin",
    tag,
    summary: "Delete a card that no service lists",
    description:
      "Its agent's token is refused from then on. A card that is listed, or that still runs something, is 409.",
    answers: { 204: { description: "Gone.", schema: null } },
    run: (call) => attempt(() => remove(call)),
  }),
  route({
    method: "POST",
    path: "/v1/cards/{card}/token",
    role: "admin",
    tag,
    summary: "Replace the token of a card's agent",
    answers: { 200: { description: "The new token; the old one is refused immediately.", schema: TokenView } },
    run: (call) => attempt(() => replaceToken(call)),
  }),
  route({
    method: "POST",
    path: "/v1/cards/{card}/heartbeat",
    role: "card",
    tag,
    summary: "Report what a card is doing",
    description: "Sent by the card's agent. Reports count in the order of arrival; `at` is only shown.",
    body: HeartbeatBody,
    answers: { 204: { description: "Accepted.", schema: null } },
    run: (call) => hear(call),
  }),
];

async function patch(call: Named<z.output<typeof CardPatch>>): Promise<Changed<Answer>> {
  const { env, trace, params, body } = call;
  const [before, listings] = await Promise.all([cardById(env, params.card), listingsOf(env, "card", [params.card])]);
  if (before === null) return refuse("not_found");
  const after = { ...before, ...cardSettings(before, body) };
  if (JSON.stringify(before) !== JSON.stringify(after)) {
    const change = changeOf(call, "card.patch", params.card, cardSettings(before, {}), cardSettings(after, {}));
    const outcome = await patchCard(env, before, after, change);
    if (outcome !== "done") return outcome;
  }
  await announce(
    env,
    trace,
    listings.map((listing) => listing.serviceId),
    [params.card],
  );
  const row = await cardById(env, params.card);
  return row === null ? refuse("not_found") : { status: 200, body: cardView(row, listings) };
}

async function remove(call: Named<unknown>): Promise<Changed<Answer>> {
  const { env, params } = call;
  const [before, listings] = await Promise.all([cardById(env, params.card), listingsOf(env, "card", [params.card])]);
  if (before === null) return refuse("not_found");
  if (listings.length > 0)
    return refuse("card_listed", { facts: { services: listings.map((listing) => listing.serviceId).join(", ") } });
  // Once the object has a configuration without listings it grants no slots; its status shows those still held.
  await provisionCards(env, [before]);
  const { report } = await withTimeout(env.CARD.getByName(before.id).status());
  if (report.held.length > 0 || Object.keys(report.gates).length > 0)
    return refuse("card_busy", { retryAfterMs: BUSY_RETRY_MS });
  const outcome = await deleteCard(
    env,
    before,
    changeOf(call, "card.delete", before.id, cardSettings(before, {}), null),
  );
  return outcome === "done" ? { status: 204, body: null } : outcome;
}

async function replaceToken(call: Named<unknown>): Promise<Changed<Answer>> {
  const { env, params } = call;
  const before = await cardById(env, params.card);
  if (before === null) return refuse("not_found");
  const { token, hash } = await makeCardToken(env);
  const outcome = await setCardToken(env, before, hash, changeOf(call, "card.token", params.card, null, null));
  return outcome === "done" ? { status: 200, body: { id: before.id, token } } : outcome;
}

async function hear({ env, params, body }: Named<z.output<typeof HeartbeatBody>>): Promise<Answer> {
  await env.CARD.getByName(params.card).heartbeat({
    gpuMemoryRatio: body.gpu_memory_ratio ?? null,
    gpuUtilization: body.gpu_utilization ?? null,
    running: body.running ?? null,
  });
  return { status: 204, body: null };
}

async function show(env: Env, id: string): Promise<Answer | Refusal> {
  const [row, listings] = await Promise.all([cardById(env, id), listingsOf(env, "card", [id])]);
  if (row === null) return refuse("not_found");
  const live = await cardStatuses(env, [id]);
  return { status: 200, body: liveCardView(row, listings, live.get(id)) };
}

async function list(env: Env, query: z.output<typeof PageQuery>): Promise<Answer | Refusal> {
  const from = positionOf(query.cursor, z.tuple([z.string()]));
  if (isRefusal(from)) return from;
  const rows = await pageOfCards(env, from.at?.[0], "after", query.limit);
  const ids = rows.slice(0, query.limit).map((row) => row.id);
  const [listings, live] = await Promise.all([listingsOf(env, "card", ids), cardStatuses(env, ids)]);
  return page(
    rows,
    query.limit,
    (row) => [row.id],
    (row) => liveCardView(row, listings, live.get(row.id)),
  );
}

function liveCardView(
  row: CardRow,
  listings: ListingRow[],
  status: CardStatus | undefined,
): z.infer<typeof LiveCardView> {
  return { ...cardView(row, listings), live: status === undefined ? null : liveView(status) };
}

function gateView({ state, untilAt, reason }: BreakerState): z.infer<typeof GateView> {
  return { state, until_at: state === "open" ? iso(untilAt) : null, reason };
}

function liveView({ report, heartbeat, counters }: CardStatus): z.infer<typeof LiveView> {
  return {
    in_use: report.held.length,
    running: report.held.filter((held) => held.state === "leased").length,
    gates: Object.fromEntries(Object.entries(report.gates).map(([service, gate]) => [service, gateView(gate)])),
    heartbeat: heartbeat && {
      gpu_memory_ratio: heartbeat.gpuMemoryRatio,
      gpu_utilization: heartbeat.gpuUtilization,
      running: heartbeat.running,
      at: iso(heartbeat.at),
    },
    counters: { ...counters },
  };
}
