/** Where a request stands in line, told to a caller whose stream is open already. */
import type { Ask } from "./ask.ts";
import type { Env } from "./env.ts";
import type { Events } from "./events.ts";
import { answered } from "./until.ts";

/** How often the Pool is asked. */
const LOOK_MS = 2_000;
/** A line that has not moved for so many looks is not looked at any more. */
const LOOKS_MAX = 1_800;

/** Says in comments how many it is from its turn, and in about how many seconds that comes; until `until` says so. */
export async function tellPlace(
  env: Env,
  { service }: Ask,
  request: string,
  events: Events,
  until: () => boolean,
): Promise<void> {
  let said = "";
  for (let looks = 0; looks < LOOKS_MAX && !until() && !events.gone.aborted; looks++) {
    try {
      const line = await lineOf(env, service.id, request);
      if (line !== null && line !== said && !until()) events.comment(line);
      said = line ?? said;
    } catch (error) {
      // Only this was to be told; the request itself has its own way to its Pool.
      console.warn(JSON.stringify({ event: "place_untold", request, error: String(error) }));
    }
    await scheduler.wait(LOOK_MS);
  }
}

async function lineOf(env: Env, service: string, request: string): Promise<string | null> {
  const pool = env.POOL.getByName(service);
  const [{ requests }, { serviceMs, reports }] = await Promise.all([
    answered(pool.present([request])),
    answered(pool.status()),
  ]);
  const position = requests[request]?.position ?? null;
  if (position === null) return null;
  const slots = reports.reduce((sum, report) => sum + (report.state === "active" ? report.slots : 0), 0);
  const eta = serviceMs === null || slots === 0 ? "" : ` eta=${Math.ceil((position * serviceMs) / slots / 1000)}`;
  return `queue=${position}${eta}`;
}
