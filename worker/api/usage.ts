/** A tenant's usage by day (UTC), service and key: `GET /v1/usage`, and the same in the admin API. */
import { z } from "zod";
import { DAY_MS, dayOf, type UsagePage, type UsageRow, type Use } from "../../durable-objects/tenant-protocol.ts";
import { cursorOf, PageQuery, positionOf } from "./page.ts";
import { callerWith } from "../caller/caller.ts";
import type { Env } from "../env.ts";
import { checkFields } from "./json-body.ts";
import { wrong } from "../details.ts";
import { invalid, isRefusal, type Refusal } from "../refusal.ts";
import { tallied } from "../caller/tally.ts";
import type { Trace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

const DAYS_MAX = 366;
const GROUPS = ["day", "service", "key"] as const;

/** Description in the OpenAPI document. */
export const USAGE =
  "By day (UTC), service and key. A request counts once, when it ends, on the day of its admission: exactly, also through restarts. Requests that are not admitted (hits, and earlier refusals) are counted separately and appear within seconds; a few of these may be missing. Kept 400 days. As a table (RFC 4180) with `Accept: text/csv`.";

const Moment = z
  .union([z.iso.date(), z.iso.datetime({ offset: true })], wrong("moment"))
  .refine((text) => /^\d{4}-/.test(new Date(text).toISOString()), wrong("year"));
const NAME = `(${GROUPS.join("|")})`;
const Group = z
  .string()
  .regex(new RegExp(`^${NAME}(,${NAME})*$`), wrong("usage_groups"))
  .transform((text) => text.split(",") as (typeof GROUPS)[number][]);

export const UsageQuery = PageQuery.extend({
  from: Moment.optional().meta({
    description:
      "The first day, UTC; for a time, the day that contains it. Default: the first day of the month of `to`.",
  }),
  to: Moment.optional().meta({
    description: `The last day, inclusive; for a time, the day of the last moment before it. Default: today. At most ${DAYS_MAX} days.`,
  }),
  group: Group.optional().meta({
    description:
      "Comma-separated dimensions to group by: `day`, `service`, `key`; the others are summed. Default: all three.",
  }),
});

const Count = z.int();
const Amounts = z.object({
  requests: Count.meta({ description: "All requests: hits, other answers, and the sum of `refusals`." }),
  hits: Count.meta({ description: "Requests answered from the cache." }),
  results: Count.meta({ description: "Images and sounds that were made." }),
  bytes: Count.meta({ description: "Bytes of the answers that were sent to callers." }),
  gpu_seconds: z.number().meta({
    description:
      "Time for which slots were held, from each claim to the end of the card's answer, failed tries included.",
  }),
  cost: z.number().meta({ description: "Cost units." }),
  refusals: z.record(z.string(), Count).meta({ description: "Refused requests, by reason." }),
});
const Name = z.string().nullable().meta({ description: "Null if rows are summed over it." });
const Day = z.string().meta({ format: "date" });

export const UsageView = z
  .object({
    tenant: z.string(),
    from: Day,
    to: Day,
    data: z.array(z.object({ day: Name, service: Name, key: Name, ...Amounts.shape })),
    totals: Amounts.meta({ description: "Sums over all rows; the same on every page." }),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: "Usage" });

const COLUMNS = [...GROUPS, ...Object.keys(Amounts.shape)];

export async function getUsage(request: Request, env: Env, trace: Trace): Promise<Response | Refusal> {
  const caller = await callerWith("usage", { request, env, trace });
  if (isRefusal(caller)) return caller;
  const query = checkFields(UsageQuery, Object.fromEntries(new URL(request.url).searchParams));
  return isRefusal(query) ? query : usageOf(env, trace, caller.tenant, query.body, Date.now());
}

/** Returns a page of usage, as JSON or, if the caller prefers it, CSV. */
export async function usageOf(
  env: Env,
  trace: Trace,
  tenant: string,
  query: z.output<typeof UsageQuery>,
  now: number,
): Promise<Response | Refusal> {
  const span = spanOf(query, now);
  if (isRefusal(span)) return span;
  const position = positionOf(query.cursor, z.tuple([z.string(), z.string(), z.string()]));
  if (isRefusal(position)) return position;
  const [day = "", service = "", key = ""] = position.at ?? [];
  const after = position.at === null ? null : { day, service, key };
  const { limit, group = [...GROUPS] } = query;
  await tallied(env);
  const page = await withTimeout(env.TENANT.getByName(tenant).usage({ ...span, by: group, after, limit: limit + 1 }));
  const rows = page.rows.slice(0, limit);
  const last = page.rows.length > limit ? rows.at(-1) : undefined;
  const cursor = last === undefined ? null : cursorOf([last.day, last.service, last.key]);
  const answer = trace.csv
    ? tableOf(rows)
    : Response.json({ tenant, ...span, ...view({ ...page, rows }), next_cursor: cursor });
  answer.headers.set("vary", "Accept");
  if (cursor !== null) {
    const next = new URLSearchParams({ ...span, group: group.join(","), limit: String(limit), cursor });
    answer.headers.set("link", `<?${next.toString()}>; rel="next"`);
  }
  return answer;
}

/** First and last day of the query, both included. */
function spanOf({ from, to }: z.output<typeof UsageQuery>, now: number): { from: string; to: string } | Refusal {
  const last = to === undefined ? dayOf(now) : isDate(to) ? to : dayOf(Date.parse(to) - 1);
  const first = from === undefined ? `${last.slice(0, 8)}01` : isDate(from) ? from : dayOf(Date.parse(from));
  const days = (Date.parse(last) - Date.parse(first)) / DAY_MS + 1;
  if (days < 1) return invalid("to", "before_from");
  return days > DAYS_MAX ? invalid("from", "days_at_most", { max: DAYS_MAX }) : { from: first, to: last };
}

const isDate = (text: string): boolean => !text.includes("T");

function view({ rows, totals }: UsagePage): Pick<z.output<typeof UsageView>, "data" | "totals"> {
  return { data: rows.map(rowView), totals: amounts(totals) };
}

function rowView(row: UsageRow) {
  return { day: row.day || null, service: row.service || null, key: row.key || null, ...amounts(row) };
}

function amounts({ requests, hits, results, bytes, gpuMs, costMilli, refusals }: Use): z.output<typeof Amounts> {
  return { requests, hits, results, bytes, gpu_seconds: gpuMs / 1000, cost: costMilli / 1000, refusals };
}

/** CSV (RFC 4180) with a header row. Refusals are `reason=count`, separated by spaces. */
function tableOf(rows: UsageRow[]): Response {
  const records = rows.map(rowView).map(({ refusals, ...row }) => {
    const told = Object.entries(refusals).map(([reason, count]) => `${reason}=${count}`);
    return [...Object.values(row).map((value) => value ?? ""), told.join(" ")];
  });
  const lines = [COLUMNS, ...records].map((fields) => `${fields.map(quoted).join(",")}\r\n`);
  return new Response(lines.join(""), { headers: { "content-type": "text/csv; charset=utf-8; header=present" } });
}

function quoted(field: string | number): string {
  const text = String(field);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
