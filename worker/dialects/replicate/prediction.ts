/** Renders a job as a Replicate prediction. Its URLs are made for each response. */
import { z } from "zod";
import type { JobState, JobView as View } from "../../../durable-objects/job-protocol.ts";
import { config } from "../../env.ts";
import { errorOf, type Showing } from "../../jobs/view.ts";
import { SIGNED_S, signedQuery, signedUrl } from "../../results/signature.ts";
import { iso, Time } from "../../api/time.ts";
import { withTimeout } from "../../../durable-objects/timeout.ts";
import { at, modelName, versionOf } from "./models.ts";

const STATUSES = ["starting", "processing", "succeeded", "failed", "canceled"] as const;
type Status = (typeof STATUSES)[number];

export const Prediction = z
  .object({
    id: z.string().meta({ description: "The job's id; the same in every dialect." }),
    model: z.string().meta({ description: "`portico/<service>`." }),
    version: z.string(),
    input: z
      .record(z.string(), z.unknown())
      .meta({ description: "The input as given; empty if it is no longer stored." }),
    output: z
      .unknown()
      .meta({ description: "Images: a list of signed URLs. A sound: one signed URL. Otherwise the origin's JSON." }),
    error: z.string().nullable(),
    logs: z.string().meta({ description: "One line per step of the progress." }),
    status: z.enum(STATUSES),
    created_at: Time,
    started_at: Time.nullable(),
    completed_at: Time.nullable(),
    metrics: z.object({ predict_time: z.number().optional(), total_time: z.number().optional() }),
    data_removed: z.boolean().meta({ description: "All that it made was removed; `output` is null." }),
    source: z.literal("api"),
    urls: z.object({ get: z.string(), cancel: z.string(), stream: z.string() }),
  })
  .meta({ id: "Prediction" });

/** `as`: the status to show instead of the current one; null: the current one. */
export async function predictionOf(
  showing: Showing,
  view: View,
  as: "starting" | "processing" | null = null,
): Promise<z.infer<typeof Prediction>> {
  const { env, trace, base } = showing;
  const { spec, state } = view;
  const status = as ?? statusOf(state);
  const isOver = as === null && state.finishedAt !== null;
  const url = at(base, `predictions/${spec.id}`);
  const [version, output, lines, signed] = await Promise.all([
    versionOf(env, spec.service),
    status === "succeeded" ? outputOf(showing, view) : null,
    status === "starting" ? [] : logsOf(showing, spec.id),
    signedQuery(config(env), "stream-url", spec.id, Date.now() + SIGNED_S * 1000),
  ]);
  return {
    id: spec.id,
    model: modelName(spec.service),
    version,
    input: typeof spec.asked === "string" ? (JSON.parse(spec.asked) as Record<string, unknown>) : {},
    output,
    error: status === "failed" ? String(errorOf(state, trace)?.["message"]) : null,
    logs: lines.join("\n"),
    status,
    created_at: iso(spec.createdAt),
    started_at: status === "starting" || state.startedAt === null ? null : iso(state.startedAt),
    completed_at: isOver && state.finishedAt !== null ? iso(state.finishedAt) : null,
    metrics: isOver ? metricsOf(view) : {},
    data_removed: isRemoved(view),
    source: "api",
    urls: { get: url, cancel: `${url}/cancel`, stream: `${url}/stream?${signed}` },
  };
}

/**
 * A job that has started once and waits for a retry stays `processing`: clients do not expect it to go back to
 * `starting`.
 */
function statusOf({ status, startedAt }: JobState): Status {
  if (status === "queued") return startedAt === null ? "starting" : "processing";
  return status === "running" ? "processing" : status;
}

const isRemoved = ({ state, removed }: View): boolean => removed === true && state.results.length === 0;

/** The output of a succeeded job: images are always a list, a sound is a single URL. Null when it was removed. */
export async function outputOf({ env, base }: Showing, view: View): Promise<unknown> {
  const { results, output } = view.state;
  if (isRemoved(view)) return null;
  if (results.length === 0) return output === null ? null : (JSON.parse(output) as unknown);
  const urls = await Promise.all(results.map(({ id }) => signedUrl(config(env), base, id, Date.now())));
  return urls.length === 1 && results[0]?.contentType.startsWith("audio/") ? urls[0] : urls;
}

async function logsOf({ env }: Showing, id: string): Promise<string[]> {
  return (await withTimeout(env.JOB.getByName(id).steps())).map(progressLine);
}

const BAR_LENGTH = 10;

/** Formatted for the client's `parseProgressFromLogs`. */
export function progressLine(share: number): string {
  const percent = Math.round(share * 100);
  const bar = "█".repeat(Math.round(share * BAR_LENGTH)).padEnd(BAR_LENGTH);
  return `${String(percent).padStart(3)}%|${bar}| ${percent}/100`;
}

/** Seconds on cards, and from submission to end. */
function metricsOf({ spec, state }: View): { predict_time?: number; total_time?: number } {
  const { startedAt, finishedAt, gpuMs } = state;
  if (finishedAt === null) return {};
  const predictMs = gpuMs > 0 || startedAt === null ? gpuMs : finishedAt - startedAt;
  return { predict_time: Math.max(0, predictMs) / 1000, total_time: Math.max(0, finishedAt - spec.createdAt) / 1000 };
}
