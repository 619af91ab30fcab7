/**
 * Progress and interruption of a job through the Stable Diffusion WebUI API. Progress is asked by the task id. An
 * interrupt stops whatever the card is running, so it is sent only while nothing else runs there.
 */
import { addAccess } from "../../durable-objects/card-protocol.ts";
import type { JobSpec } from "../../durable-objects/job-protocol.ts";
import { readWhole } from "../body/bounded.ts";
import { Room } from "../body/buffers.ts";
import { config, type Env } from "../env.ts";
import type { Grant } from "../run/lease.ts";
import { catalog } from "../services/catalog.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

const ANSWER_MS = 3_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/** Returns 0 to 1; null: not known now; `unknown`: this origin does not report progress. */
export async function progressOf(env: Env, grant: Grant, spec: JobSpec): Promise<number | null | "unknown"> {
  if (!(await isPainting(env, spec))) return "unknown";
  const body = JSON.stringify({ id_task: spec.id, live_preview: false });
  const answer = await call(env, grant, "POST", "/internal/progress", body);
  if (answer === null) return null;
  if (!answer.ok) return "unknown";
  const said = (await smallJson(answer)) as { active?: unknown; progress?: unknown } | null;
  if (said === null || typeof said.active !== "boolean") return "unknown";
  return typeof said.progress === "number" && Number.isFinite(said.progress) ? said.progress : null;
}

/**
 * Tells the origin to stop if this run is the only work on the card and is still going on. Not atomic: between the
 * check and the call the run may end and another may begin.
 */
export async function interrupt(env: Env, grant: Grant, spec: JobSpec, goesOn: () => boolean): Promise<void> {
  try {
    if (!(await isPainting(env, spec))) return;
    const { held } = await withTimeout(env.CARD.getByName(grant.card).report());
    const isAlone = held.length === 1 && held[0]?.number === grant.number && held[0].request === spec.id;
    if (!isAlone || !goesOn()) return;
    const answer = await call(env, grant, "POST", "/sdapi/v1/interrupt", "{}");
    await answer?.body?.cancel();
  } catch (error) {
    // The run is aborted anyway; its slot drains.
    console.warn(JSON.stringify({ event: "interrupt_failed", job: spec.id, error: String(error) }));
  }
}

/** True for the WebUI's own paths only, so that no other origin is called on paths that it never offered. */
async function isPainting(env: Env, { path, service }: JobSpec): Promise<boolean> {
  if (!path.endsWith("img")) return false;
  return (await catalog(env)).some(({ id, config: { kind } }) => id === service && kind === "image");
}

async function call(env: Env, grant: Grant, method: string, path: string, body: string): Promise<Response | null> {
  const headers = new Headers({ "content-type": "application/json" });
  addAccess(headers, grant.transport, config(env).access);
  try {
    const url = grant.origin.replace(/\/+$/, "") + path;
    return await fetch(url, { method, headers, body, redirect: "manual", signal: AbortSignal.timeout(ANSWER_MS) });
  } catch {
    return null;
  }
}

async function smallJson(answer: Response): Promise<unknown> {
  const room = new Room();
  try {
    const bytes = await readWhole(answer.body, { max: ANSWER_BYTES_MAX, times: 2, room });
    return typeof bytes === "string" ? null : JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  } finally {
    room.free();
  }
}
