/** `portico status`: an overview of the cluster, once or until Ctrl-C. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { List } from "./api.ts";
import type { Card } from "./cards.ts";
import { acting, type Front, leaf } from "./command.ts";
import { Failure } from "./failure.ts";
import { type ClusterStatus, statusLine, renderStatus } from "./status-view.ts";
import { Screen } from "./screen.ts";

/** The API's numbers are themselves up to a second old. */
const LOOK_EVERY_MS = 2_000;
/** More than fits on a screen. */
const CARDS_MAX = 200;

export function addStatus(program: Command): void {
  leaf(program, "status", "the cluster at a glance", "status --watch")
    .option("-w, --watch", "look again every two seconds, until Ctrl-C")
    .action(
      acting(async (front, { watch: again = false }: { watch?: boolean }) => {
        if (again) return watch(front);
        const status = await front.api.open<ClusterStatus>("/cluster/status");
        const cards = front.json ? null : await cardsFor(front);
        front.answer(status, () => renderStatus(status, cards));
      }),
    );
}

/** Null without an operator's token: cards are visible to operators only, the cluster's numbers to everybody. */
async function cardsFor({ api }: Front): Promise<Card[] | null> {
  return api.hasToken ? (await api.all<List<Card>>("/cards", CARDS_MAX)).data : null;
}

/** On a terminal redraws one picture; elsewhere prints a line each time. */
async function watch(front: Front): Promise<void> {
  const screen = process.stdout.isTTY && !front.json ? new Screen(process.stdout) : null;
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => {
      screen?.leave();
      process.exit(0);
    });
  }
  try {
    for (let looked = false; ; looked = true) {
      await look(front, screen).catch((error: unknown) => {
        if (!looked || !isPassing(error)) throw error;
        if (screen === null) front.note(error.line);
        else screen.draw(error.line);
      });
      await sleep(LOOK_EVERY_MS);
    }
  } finally {
    screen?.leave();
  }
}

async function look(front: Front, screen: Screen | null): Promise<void> {
  const status = await front.api.open<ClusterStatus>("/cluster/status");
  if (screen === null) front.answer(status, () => statusLine(status));
  else screen.draw(renderStatus(status, await cardsFor(front)));
}

/** Whether to keep watching: a deployment that restarts or is briefly unreachable comes back. */
function isPassing(error: unknown): error is Failure {
  if (!(error instanceof Failure)) return false;
  return error.exitCode === 1 && (error.status === null || error.status === 429 || error.status >= 500);
}
