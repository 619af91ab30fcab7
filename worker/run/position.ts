/** Reports a request's place in line to a caller whose event stream is already open. */
import type { Ask } from "../ask.ts";
import type { Env } from "../env.ts";
import type { Events } from "../api/events.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

/** Interval between calls to the Pool, ms, and their maximum number: nobody waits longer than an hour. */
const LOOK_MS = 2_000;
const LOOKS_MAX = 1_800;

/** Sends the position and an estimate of the remaining seconds as comments, until `until` returns true. */
export async function tellPosition(
  env: Env,
  { service }: Ask,
  request: string,
  events: Events,
  until: () => boolean,
): Promise<void> {
  const pool = env.POOL.getByName(service.id);
  let said: number | null = null;
  try {
    const { serviceMs, reports } = await withTimeout(pool.status());
    const slots = reports.reduce((sum, report) => sum + (report.state === "active" ? report.slots : 0), 0);
    for (let looks = 0; looks < LOOKS_MAX && !until() && !events.gone.aborted; looks++) {
      const { requests } = await withTimeout(pool.present([request]));
      const position = requests[request]?.position ?? null;
      if (position !== null && position !== said && !until()) {
        const eta = serviceMs === null || slots === 0 ? "" : ` eta=${Math.ceil((position * serviceMs) / slots / 1000)}`;
        events.comment(`queue=${position}${eta}`);
        said = position;
      }
      await scheduler.wait(LOOK_MS);
    }
  } catch (error) {
    // Not critical: the request itself waits at the Pool independently.
    console.warn(JSON.stringify({ event: "position_report_failed", request, error: String(error) }));
  }
}
