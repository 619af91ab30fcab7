/** Every call in the OpenAPI document, and what it takes to make one, so that new calls are attacked too. */
import type { Doorway, Sent } from "../contract/doorway.ts";

/** The part of JSON Schema that the document uses. */
export interface Schema {
  $ref?: string;
  type?: string;
  format?: string;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  minItems?: number;
  minimum?: number;
  additionalProperties?: boolean | Schema;
}

export interface Operation {
  method: string;
  path: string;
  /** Owner of the credential that it needs. */
  of: "tenant" | "operator" | "card" | "nobody";
  /** Names of its path parameters. */
  names: string[];
  query: string[];
  body: Schema | null;
}

interface Described {
  security?: Record<string, unknown>[];
  parameters?: { in: string; name: string }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

interface Document {
  paths: Record<string, Record<string, Described>>;
  components: { schemas: Record<string, Schema> };
}

/** Path that stands for all routes of services in the document. */
export const SERVICE_PATH = "/{route}/{path}";

export async function operationsOf(door: Doorway): Promise<Operation[]> {
  const document: Document = JSON.parse((await door.ask("/openapi.json", { key: null })).text);
  const resolved = resolver(document.components.schemas);
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, described]): Operation => {
      const schema = described.requestBody?.content["application/json"]?.schema;
      const parameters = described.parameters ?? [];
      return {
        method: method.toUpperCase(),
        path,
        of: ownerOf(described),
        names: parameters.filter((one) => one.in === "path").map(({ name }) => name),
        query: parameters.filter((one) => one.in === "query").map(({ name }) => name),
        body: schema === undefined ? null : resolved(schema),
      };
    }),
  );
}

function ownerOf({ security = [] }: Described): Operation["of"] {
  const ways = security.flatMap((way) => Object.keys(way));
  if (ways.includes("tenantKey")) return "tenant";
  if (ways.includes("cardToken")) return "card";
  return ways.includes("operatorToken") ? "operator" : "nobody";
}

/** Replaces references with the schemas that they name. */
function resolver(schemas: Record<string, Schema>): (schema: Schema) => Schema {
  return function resolved(schema) {
    const name = schema.$ref?.split("/").at(-1);
    if (name !== undefined) return resolved(schemas[name] ?? {});
    const copy = { ...schema };
    if (schema.properties !== undefined)
      copy.properties = Object.fromEntries(Object.entries(schema.properties).map(([key, one]) => [key, resolved(one)]));
    if (schema.items !== undefined) copy.items = resolved(schema.items);
    if (schema.anyOf !== undefined) copy.anyOf = schema.anyOf.map(resolved);
    return copy;
  };
}

/** Returns a value that the schema accepts, without optional parts. */
export function exampleOf(schema: Schema): unknown {
  const [first] = schema.anyOf ?? schema.oneOf ?? schema.enum ?? [];
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return first;
  if (first !== undefined) return exampleOf(first as Schema);
  if (schema.type === "object") return objectOf(schema);
  if (schema.type === "array") return Array.from({ length: schema.minItems ?? 0 }, () => exampleOf(schema.items ?? {}));
  if (schema.type === "integer" || schema.type === "number") return Math.max(1, schema.minimum ?? 1);
  if (schema.type === "boolean") return true;
  if (schema.format === "uri") return "https://gpu.example.com";
  return schema.format === "date-time" ? "2100-01-01T00:00:00Z" : "x";
}

function objectOf({ required = [], properties = {} }: Schema): Record<string, unknown> {
  return Object.fromEntries(required.map((name) => [name, exampleOf(properties[name] ?? {})]));
}

/** Fills a path with escaped ids: the same id everywhere, or one id per collection. */
export function filled(path: string, ids: string | Record<string, string>): string {
  return path.replace(/(\w*)\/\{\w+\}/g, (_, collection: string) => {
    const id = typeof ids === "string" ? ids : (ids[collection] ?? "nothing");
    return `${collection}/${encodeURIComponent(id)}`;
  });
}

/** Returns what a well-formed call sends besides its path. */
export function sentOf({ method, body }: Operation): Sent {
  return body === null ? { method } : { method, json: exampleOf(body) };
}

/** Lists the configuration, without what changes by itself: live state of cards and lines, and last uses. */
export async function configured(door: Doorway): Promise<Record<string, { id: string }[]>> {
  const lists = ["services", "cards", "tenants", "keys", "audit"];
  const shown = await Promise.all(
    lists.map((list) => door.portico.admin<{ data: { id: string }[] }>("GET", `/${list}?limit=1000`)),
  );
  return Object.fromEntries(
    shown.map(({ data }, i) => [lists[i], data.map((row) => ({ ...row, live: null, last_used_at: null }))]),
  );
}
