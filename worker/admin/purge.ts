/** Stored results and answers: purging by tenant, service or model version, and verification of R2 against D1. */
import { z } from "zod";
import { countMatching, noteChange } from "../db/purge-queries.ts";
import { type Inventory, takeInventory } from "../results/inventory.ts";
import { wrong } from "../details.ts";
import { isRefusal, type Refusal } from "../refusal.ts";
import { allRecorded } from "../results/rows.ts";
import { type Removed, removeMatching } from "../results/removal.ts";
import { changeOf } from "./change.ts";
import { cursorOf, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";

/** Bounds one call to seconds of work rather than minutes. */
const ROUNDS_MAX = 20;

const tag = "Results";
const name = z.string().min(1).max(200);

const PurgeBody = z
  .strictObject({
    tenant: name.optional().meta({ description: "Only results and answers of this tenant." }),
    service: name.optional().meta({ description: "Only what this service made; it may be deleted already." }),
    model_version: name.optional().meta({ description: "Only what was made with this version." }),
    what: z.enum(["results", "answers", "all"]).meta({
      description:
        "`results`: results and the stored answers that contain them; `answers`: stored answers only, so that the same requests run again; `all`: both.",
    }),
    dry_run: z.boolean().optional().meta({ description: "Only count what would be removed. Default false." }),
  })
  .refine(({ tenant, service, model_version }) => (tenant ?? service ?? model_version) !== undefined, {
    path: ["tenant"],
    message: wrong("purge_scope"),
  })
  .meta({ id: "PurgeBody" });

const Purged = z
  .object({
    results: z.int(),
    answers: z.int(),
    bytes: z.int(),
    done: z.boolean().meta({ description: "True when nothing that matches is left." }),
  })
  .meta({ id: "Purged" });

const VerifyBody = z
  .strictObject({
    mend: z.boolean().optional().meta({
      description:
        "Recreate missing rows from their objects; remove objects that have expired or lack metadata, and rows without an object. Default false.",
    }),
    cursor: z.string().max(2048).optional().meta({ description: "`next_cursor` of the previous call." }),
  })
  .meta({ id: "VerifyBody" });

const Verified = z
  .object({
    compared: z.int().meta({ description: "Objects and rows that were compared." }),
    orphans: z.int().meta({ description: "Objects without a row, older than an hour." }),
    missing: z.int().meta({ description: "Rows without an object." }),
    restored: z.int().meta({ description: "Rows that were recreated." }),
    removed_objects: z.int(),
    removed_rows: z.int(),
    next_cursor: z.string().nullable().meta({ description: "Null: everything has been compared." }),
  })
  .meta({ id: "Verified" });

export const purgeRoutes: Route[] = [
  route({
    method: "POST",
    path: "/v1/purge",
    role: "admin",
    tag,
    summary: "Purge results and stored answers",
    description: `Removes objects and rows; edge copies expire within a minute. One call removes up to ${ROUNDS_MAX} thousand results and as many answers; if more are left, the answer is 202; repeat the call to continue.`,
    body: PurgeBody,
    answers: {
      200: { description: "What was removed, or would be with `dry_run`.", schema: Purged },
      202: { description: "What was removed so far; repeat the call to continue.", schema: Purged },
    },
    run: (call) => purge(call),
  }),
  route({
    method: "POST",
    path: "/v1/results/verify",
    role: "admin",
    tag,
    summary: "Compare R2 with its rows",
    description: "Compares R2 and D1 in the order of their keys, a few thousand keys per call.",
    body: VerifyBody,
    answers: { 200: { description: "What was found.", schema: Verified } },
    run: (call) => verify(call),
  }),
];

async function purge(call: Call<z.output<typeof PurgeBody>, unknown, never>): Promise<Answer> {
  const { env, body } = call;
  const { what, dry_run, ...filter } = body;
  if (dry_run) return { status: 200, body: await wouldGo(call) };
  // The audit entry is written first, because a purge that is cut off may already have removed something.
  await noteChange(env, changeOf(call, "purge", Object.values(filter).join("/"), null, { what, ...filter }));
  await allRecorded();
  const removed = await removeMatching(env, filter, what, ROUNDS_MAX);
  return { status: removed.done ? 200 : 202, body: removed };
}

async function wouldGo({ env, body }: Call<z.output<typeof PurgeBody>, unknown, never>): Promise<Removed> {
  const { what, dry_run: _, ...filter } = body;
  const matching = await countMatching(env, filter, what === "results" ? "held" : "matching");
  const results = what === "answers" ? { count: 0, bytes: 0 } : matching.results;
  const { answers } = matching;
  const [made, bytes] = [results.count + answers.count, results.bytes + answers.bytes];
  return { results: results.count, answers: answers.count, bytes, done: made === 0 };
}

async function verify(call: Call<z.output<typeof VerifyBody>, unknown, never>): Promise<Answer | Refusal> {
  const { env, body } = call;
  const from = positionOf(body.cursor, z.tuple([z.int().min(0), z.string()]));
  if (isRefusal(from)) return from;
  const { found, next } = await takeInventory(env, from.at ?? [0, ""], body.mend === true);
  if (hasMended(found)) await noteChange(env, changeOf(call, "results.mend", "results", null, found));
  return { status: 200, body: { ...found, next_cursor: next === null ? null : cursorOf(next) } };
}

function hasMended({ restored, removed_objects, removed_rows }: Inventory): boolean {
  return restored + removed_objects + removed_rows > 0;
}
