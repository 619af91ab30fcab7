/**
 * How long a result lives and who may read it: as its service says, or as the headers of its request do. Who may read it
 * stands in its id, so that nothing has to be looked up to refuse somebody. Pure.
 */
import { type Refusal, refuse } from "../refusal.ts";
import type { Service } from "../services/service.ts";

/** `private`: with a key of its tenant; `signed`: also with a signature; `public`: by everybody who has the id. */
export const VISIBILITIES = ["private", "signed", "public"] as const;
export type Visibility = (typeof VISIBILITIES)[number];

export interface Delivery {
  /** Of the results, ms from their making. */
  lifeMs: number;
  visibility: Visibility;
}

const DAY_S = 86_400;
const ID = /^(?:pub_|prv_)?[0-9A-Za-z]{8,64}$/;
const MARKS: Record<Visibility, string> = { private: "prv_", signed: "", public: "pub_" };

/** `X-Result-TTL` (seconds, 1 to the service's `keep_days`) and `X-Result-Visibility`; 400 `invalid_field` names them. */
export function deliveryOf(headers: Headers, { results }: Service): Delivery | Refusal {
  const longestS = Math.max(1, Math.floor(results.keep_days * DAY_S));
  const ttl = headers.get("x-result-ttl");
  if (ttl !== null && !(/^\d{1,10}$/.test(ttl) && Number(ttl) >= 1 && Number(ttl) <= longestS))
    return invalid("X-Result-TTL", `must be 1 to ${longestS} whole seconds`);
  const said = headers.get("x-result-visibility");
  const visibility = VISIBILITIES.find((known) => known === said);
  if (said !== null && visibility === undefined)
    return invalid("X-Result-Visibility", `must be ${VISIBILITIES.join(", ")}`);
  const lifeMs = ttl === null ? results.keep_days * DAY_S * 1000 : Number(ttl) * 1000;
  // A service that was put by an older version says nothing of it.
  return { lifeMs, visibility: visibility ?? results.visibility ?? "signed" };
}

function invalid(param: string, detail: string): Refusal {
  return refuse("invalid_field", { param, facts: { detail } });
}

export function resultIdOf(visibility: Visibility, random: string): string {
  return MARKS[visibility] + random;
}

export function isResultId(id: string): boolean {
  return ID.test(id);
}

export function visibilityOf(id: string): Visibility {
  return VISIBILITIES.find((each) => MARKS[each] !== "" && id.startsWith(MARKS[each])) ?? "signed";
}
