/** `portico leases` and `portico audit`: the leases that are held, and the changes that operators made. */
import type { Command } from "commander";
import { acting, leaf, type Rows, showList, withRows } from "./command.ts";
import { cell, inSeconds, isThing, leaves, shortTime } from "./table.ts";

/** The remaining changed fields are only in the JSON output. */
const CHANGES_SHOWN_MAX = 4;

interface Lease {
  card: string;
  number: number;
  state: string;
  age_ms: number;
  holder: string;
  tenant: string;
  service: string;
}

interface Change {
  at: string;
  actor: string;
  action: string;
  target: string;
  before: unknown;
  after: unknown;
}

export function addLedger(program: Command): void {
  withRows(leaf(program, "leases", "the slots that are held now", "leases")).action(
    acting(async (front, { rows }: Rows) =>
      showList<Lease>(front, {
        path: "/leases",
        rows,
        columns: {
          card: (row) => row.card,
          number: (row) => row.number,
          state: (row) => row.state,
          age: (row) => inSeconds(row.age_ms),
          service: (row) => row.service,
          tenant: (row) => row.tenant,
          request: (row) => row.holder,
        },
      }),
    ),
  );

  withRows(leaf(program, "audit", "what operators changed, the newest first", "audit --target portrait --rows 20"))
    .option("--target <id>", "only changes of this id; a listing's is SERVICE/CARD")
    .action(
      acting(async (front, { rows, target }: Rows & { target?: string }) =>
        showList<Change>(front, {
          path: "/audit",
          rows,
          query: { target },
          columns: {
            at: (row) => shortTime(row.at),
            actor: (row) => row.actor,
            action: (row) => row.action,
            target: (row) => row.target,
            change: changed,
          },
        }),
      ),
    );
}

/** The fields that differ, as old and new values. */
function changed({ before, after }: Change): string | null {
  if (!isThing(before) || !isThing(after)) return null;
  const old = new Map(leaves(before));
  const told = leaves(after)
    .map(([path, value]) => [path, cell(old.get(path)), cell(value)])
    .filter(([, was, is]) => was !== is)
    .map(([path, was, is]) => `${path}: ${was} > ${is}`);
  const more = told.length - CHANGES_SHOWN_MAX;
  return [...told.slice(0, CHANGES_SHOWN_MAX), ...(more > 0 ? [`${more} more`] : [])].join(", ");
}
