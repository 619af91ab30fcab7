/** `portico usage`: a tenant's usage by day, service and key. */
import type { Command } from "commander";
import type { List } from "./api.ts";
import { acting, leaf, noteCut, type Rows, withRows } from "./command.ts";
import { usageFailure } from "./failure.ts";
import { path } from "./path.ts";
import { table } from "./table.ts";
import { tenantNamed } from "./tenants.ts";

interface Amounts {
  requests: number;
  hits: number;
  results: number;
  bytes: number;
  gpu_seconds: number;
  cost: number;
  refusals: number | Record<string, number>;
}

type Row = Amounts & { day: string | null; service: string | null; key: string | null };

interface Usage extends List<Row> {
  from: string;
  to: string;
  totals: Amounts;
}

interface Span extends Rows {
  from?: string;
  to?: string;
  group?: string;
  csv?: boolean;
}

export function addUsage(program: Command): void {
  withRows(leaf(program, "usage <tenant>", "what a tenant used", "usage studio --from 2027-01-01 --to 2027-01-31"))
    .option("--from <day>", "the first day, UTC")
    .option("--to <day>", "the last day, inclusive")
    .option("--group <names>", "comma-separated: day, service, key; the others are summed")
    .option("--csv", "the table as CSV (RFC 4180)")
    .action(
      acting(async (front, text: string, { rows, from, to, group, csv = false }: Span) => {
        if (csv && front.json) throw usageFailure("--csv and --json cannot be combined.");
        const { id } = await tenantNamed(front.api, text);
        const of = path`/tenants/${id}/usage`;
        const query = { from, to, group };
        if (csv) {
          const written = await front.api.csv(of, rows, query);
          process.stdout.write(written.text);
          if (written.more) noteCut(front, rows);
          return;
        }
        const usage = await front.api.all<Usage>(of, rows, query);
        front.answer(usage, () => told(usage));
        if (usage.next_cursor) noteCut(front, rows);
      }),
    );
}

function told({ from, to, data, totals }: Usage): string {
  const total = { ...totals, day: "total", service: null, key: null };
  const rows = table<Row>([...data, total], {
    day: (row) => row.day,
    service: (row) => row.service,
    key: (row) => row.key,
    requests: (row) => row.requests,
    hits: (row) => row.hits,
    results: (row) => row.results,
    bytes: (row) => row.bytes,
    "gpu seconds": (row) => row.gpu_seconds,
    cost: (row) => row.cost,
    refusals: (row) => refusalsOf(row.refusals),
  });
  return `${from} to ${to}, UTC\n\n${rows}`;
}

function refusalsOf(refusals: Amounts["refusals"]): string | number {
  if (typeof refusals === "number") return refusals;
  const by = Object.entries(refusals).map(([reason, times]) => `${reason} ${times}`);
  return by.length === 0 ? 0 : by.join(", ");
}
