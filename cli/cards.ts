/** `portico cards`: the GPU cards, whichever services they are listed in. */
import type { Command } from "commander";
import { acting, destructive, leaf, listing, type Rows, showList, showSecret, showThing, type Yes } from "./command.ts";
import { confirm } from "./confirm.ts";
import { path } from "./path.ts";
import { number } from "./values.ts";

export interface Card {
  id: string;
  server: string | null;
  gpu: number | null;
  slots: number;
  state: string;
  listings: { service: string }[];
  live: {
    in_use: number;
    gates: Record<string, { state: string; reason: string | null }>;
    heartbeat: { gpu_memory_ratio: number | null } | null;
  } | null;
}

interface Put {
  origin?: string;
  transport?: string;
  weight?: number;
  server?: string;
  gpu?: number;
  slots?: number;
  state?: string;
}

export function addCards(program: Command): void {
  const cards = program.command("cards").description("one GPU each, wherever it is listed");

  listing(cards, "list cards with what they are doing", "cards list").action(
    acting(async (front, { rows }: Rows) =>
      showList<Card>(front, {
        path: "/cards",
        rows,
        columns: {
          id: (row) => row.id,
          server: (row) => row.server,
          gpu: (row) => row.gpu,
          state: (row) => row.state,
          "in use": (row) => `${row.live?.in_use ?? "?"}/${row.slots}`,
          health: healthOf,
          memory: (row) => percent(row.live?.heartbeat?.gpu_memory_ratio),
          services: (row) => row.listings.map(({ service }) => service),
        },
      }),
    ),
  );

  leaf(cards, "show <card>", "show a card with what it is doing", "cards show gpu-01-0").action(
    acting(async (front, id: string) => showThing(front, await front.api.call<Card>("GET", path`/cards/${id}`))),
  );

  addPut(cards);
  addStates(cards);

  destructive(
    leaf(cards, "remove <service> <card>", "take a card out of a service", "cards remove portrait gpu-01-0"),
  ).action(
    acting(async (front, service: string, card: string, { yes }: Yes) => {
      await confirm({ what: `Card ${card} will get no more work from ${service}.`, name: card, yes });
      await front.api.delete(path`/services/${service}/cards/${card}`);
      front.answer(null, () => `Card ${card} is out of ${service}.`);
    }),
  );

  destructive(leaf(cards, "delete <card>", "delete a card that no service lists", "cards delete gpu-01-0")).action(
    acting(async (front, id: string, { yes }: Yes) => {
      await confirm({ what: `Card ${id} will be deleted, and its agent's token refused.`, name: id, yes });
      await front.api.delete(path`/cards/${id}`);
      front.answer(null, () => `Card ${id} is deleted.`);
    }),
  );

  destructive(leaf(cards, "token <card>", "replace the token of a card's agent", "cards token gpu-01-0")).action(
    acting(async (front, id: string, { yes }: Yes) => {
      await confirm({ what: `The present token of ${id}'s agent will be refused at once.`, name: id, yes });
      showSecret(front, await front.api.call<{ token: string }>("POST", path`/cards/${id}/token`));
    }),
  );
}

function addPut(cards: Command): void {
  leaf(
    cards,
    "put <service> <card>",
    "list a card in a service, or change the given settings",
    "cards put portrait gpu-01-0 --origin https://gpu-01-0.example.com --transport tunnel",
  )
    .alias("add")
    .option("--origin <url>", "where it answers for this service; needed the first time")
    .option("--transport <name>", "direct, tunnel or vpc")
    .option("--weight <n>", "share of the service's work", number)
    .option("--server <name>", "the machine that it is in")
    .option("--gpu <n>", "its number there", number)
    .option("--slots <n>", "requests that it runs at once", number)
    .option("--state <state>", "active, draining or disabled")
    .action(
      acting(async (front, service: string, card: string, given: Put) => {
        const put = await front.api.call<Card & { token?: string }>(
          "PUT",
          path`/services/${service}/cards/${card}`,
          given,
        );
        if (put.token === undefined) showThing(front, put);
        else showSecret(front, put);
      }),
    );
}

function addStates(cards: Command): void {
  leaf(cards, "drain <card>", "send a card no new work; what runs on it finishes", "cards drain gpu-01-0").action(
    turn("draining"),
  );
  leaf(cards, "activate <card>", "let a card take work again", "cards activate gpu-01-0").action(turn("active"));
  destructive(
    leaf(cards, "disable <card>", "drain a card and exclude it from the capacity", "cards disable gpu-01-0"),
  ).action(
    acting(async (front, id: string, { yes }: Yes) => {
      await confirm({ what: `Card ${id} will get no new work and will not count as capacity.`, name: id, yes });
      showThing(front, await front.api.call<Card>("PATCH", path`/cards/${id}`, { state: "disabled" }));
    }),
  );
}

function turn(state: string) {
  return acting(async (front, id: string) =>
    showThing(front, await front.api.call<Card>("PATCH", path`/cards/${id}`, { state })),
  );
}

/** The card's breakers that are not closed, by service; `ok`: none. */
export function healthOf({ live }: Card): string {
  if (live === null) return "no answer";
  const shut = Object.entries(live.gates).filter(([, gate]) => gate.state !== "closed");
  const told = shut.map(
    ([service, { state, reason }]) => `${service}: ${state}${reason === null ? "" : ` (${reason})`}`,
  );
  return told.length === 0 ? "ok" : told.join(", ");
}

function percent(ratio: number | null | undefined): string | null {
  return ratio == null ? null : `${Math.round(ratio * 100)} %`;
}
