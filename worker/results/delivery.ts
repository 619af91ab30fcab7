/**
 * How long a result lives and who may read it, as set by its service or by headers of its request. The visibility is
 * part of the id, so that a reader can be refused without a lookup. Pure.
 */
import { invalid, type Refusal } from "../refusal.ts";
import type { Service } from "../services/service.ts";

/** `private`: only with a key of its tenant; `signed`: also with a signature; `public`: anybody who has the id. */
export const VISIBILITIES = ["private", "signed", "public"] as const;
export type Visibility = (typeof VISIBILITIES)[number];

export interface Delivery {
  /** Lifetime of the results, ms from their creation. */
  lifeMs: number;
  visibility: Visibility;
}

const DAY_S = 86_400;
/** Longest lifetime of the results of a `no-store` job, which has to keep them until they are fetched. */
const NO_STORE_S_MAX = 3_600;
const ID = /^(?:pub_|prv_)?[0-9A-Za-z]{8,64}$/;
const MARKS: Record<Visibility, string> = { private: "prv_", signed: "", public: "pub_" };

/**
 * Reads `X-Result-TTL` (seconds, 1 to the service's `keep_days`) and `X-Result-Visibility`. Refuses invalid values with
 * 400 `invalid_field`, naming the header.
 */
export function deliveryOf(headers: Headers, { results }: Service, noStore: boolean): Delivery | Refusal {
  const longestS = Math.max(1, Math.floor(results.keep_days * DAY_S));
  const ttl = headers.get("x-result-ttl");
  if (ttl !== null && !(/^\d{1,10}$/.test(ttl) && Number(ttl) >= 1 && Number(ttl) <= longestS))
    return invalid("X-Result-TTL", "whole_seconds", { max: longestS });
  const said = headers.get("x-result-visibility");
  const visibility = VISIBILITIES.find((known) => known === said);
  if (said !== null && visibility === undefined)
    return invalid("X-Result-Visibility", "one_of", { values: VISIBILITIES.join(", ") });
  const lifeS = ttl === null ? results.keep_days * DAY_S : Number(ttl);
  const lifeMs = (noStore ? Math.min(lifeS, NO_STORE_S_MAX) : lifeS) * 1000;
  // Services stored by an older version have no visibility.
  return { lifeMs, visibility: visibility ?? results.visibility ?? "signed" };
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
