/**
 * What an ask costs if it succeeds: the number of results it makes, and its price in thousandths of a cost unit. Pure.
 *
 * Callers control the counted fields. So every value that an origin may read counts, from the body and from the query,
 * and a value that is not a number above 0 counts as absent.
 */
import type { Counts } from "../../durable-objects/tenant-protocol.ts";
import type { Ask } from "../ask.ts";
import { charactersOf, LongText, valuesOf } from "../services/rules.ts";
import { PER_RESULT, type Price, type Service } from "../services/service.ts";

/** Limits per request, so that sums stay exact. */
const RESULTS_MAX = 1_000_000;
const COST_MILLI_MAX = 1_000_000_000;
/** Limit per field, so that a product of twenty fields stays finite. */
const FACTOR_MAX = 1e12;

type Priced = Pick<Ask, "service" | "as" | "fields" | "query">;

export function countsOf(ask: Priced): Counts {
  return { results: resultsAsked(ask), costMilli: costMilli(ask) };
}

/** Services stored before prices existed have none. */
export function priceOf({ price }: Omit<Service, "price"> & { price?: Price }): Price {
  return price ?? PER_RESULT;
}

/** The fields that a service's price depends on. */
export function pricedFields(config: Service): string[] {
  const price = priceOf(config);
  return "product" in price ? price.product : "characters" in price ? price.characters : [];
}

/** Number of images or sounds. */
function resultsAsked(ask: Priced): number {
  const { kind, defaults } = ask.service.config;
  if (ask.as === "read" || kind === "http") return 0;
  if (kind === "tts" || ask.fields?.kind !== "json") return 1;
  const fields: Record<string, unknown> = { ...defaults, ...(ask.fields.value as object | null) };
  const count = (name: string): number => {
    const value = numeric(fields[name]);
    return Number.isInteger(value) && value >= 1 ? value : 1;
  };
  return Math.min(RESULTS_MAX, count("batch_size") * count("n_iter"));
}

function costMilli(ask: Priced): number {
  return ask.as === "read" ? 0 : Math.min(COST_MILLI_MAX, Math.round(1000 * unitsOf(ask)));
}

function unitsOf(ask: Priced): number {
  const price = priceOf(ask.service.config);
  // The number of results of an `http` service is not known in advance, so a run counts once.
  const results = Math.max(1, resultsAsked(ask));
  if ("flat" in price) return price.flat * results;
  if ("product" in price)
    return price.product.reduce((product, name) => product * numberOf(ask, name), results) / price.per;
  return price.characters.reduce((sum, name) => sum + charactersIn(ask, name), 0) / price.per;
}

function numberOf(ask: Priced, name: string): number {
  const factor = largest(givenOf(ask, name)) || largest([ask.service.config.defaults[name]]) || 1;
  return Math.min(FACTOR_MAX, factor);
}

function charactersIn(ask: Priced, name: string): number {
  return charactersOfAll(givenOf(ask, name)) || charactersOfAll([ask.service.config.defaults[name]]);
}

/** 0 when there is none. */
function largest(values: unknown[]): number {
  return values.map(numeric).reduce((a, b) => (b > a ? b : a), 0);
}

function charactersOfAll(values: unknown[]): number {
  return values.map(lengthOf).reduce((a, b) => a + b, 0);
}

/** Servers also read numeric strings as numbers. */
function numeric(value: unknown): number {
  return typeof value === "number" || typeof value === "string" ? Number(value) : Number.NaN;
}

function lengthOf(value: unknown): number {
  if (value instanceof LongText) return value.characters;
  return typeof value === "string" ? charactersOf(value) : 0;
}

/** All values of a field; for a list, its members. */
function givenOf({ fields, query }: Priced, name: string): unknown[] {
  const inBody = fields === null ? [] : valuesOf(fields, name);
  return [...inBody.flat(), ...new URLSearchParams(query).getAll(name)];
}
