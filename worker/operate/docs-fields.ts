/** Renders a JSON schema as nested lists of fields, for the documentation page. */
import { html } from "hono/html";

/** The parts of an OpenAPI document that the page uses. */
export interface Doc {
  info: { title: string; version: string; description?: string };
  tags: { name: string; description?: string }[];
  paths: Record<string, Record<string, Operation>>;
  webhooks: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Schema>;
    responses: Record<string, Answer>;
    securitySchemes: Record<string, { description?: string }>;
  };
  "x-reasons": { reason: string; status: number; code: string; type: string; retryable: boolean }[];
}

export interface Operation {
  tags: string[];
  summary: string;
  description?: string;
  security?: Record<string, string[]>[];
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema?: Schema }[];
  requestBody?: { required?: boolean; content: Content };
  responses: Record<string, Answer>;
}

export interface Answer {
  $ref?: string;
  description?: string;
  headers?: Record<string, { description?: string }>;
  content?: Content;
}

type Content = Record<string, { schema?: Schema }>;

export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  format?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
}

export type Html = ReturnType<typeof html>;

/** Deeper fields are not shown. This also ends the recursion of schemas that contain themselves. */
const DEPTH_MAX = 6;

/** Renders text, with parts in backticks as `code`. */
export function prose(text: string): Html[] {
  return text.split("`").map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : html`${part}`));
}

export function resolve(doc: Doc, schema: Schema): Schema {
  const name = schema.$ref?.split("/").at(-1);
  return name === undefined ? schema : (doc.components.schemas[name] ?? {});
}

/** Constraints and required fields are shown for what callers send, not for what they receive. */
export type Way = "sent" | "got";

/** Lists the fields of an object, of the objects in a list, or of a nullable object. Empty for any other schema. */
export function fields(doc: Doc, schema: Schema, way: Way, depth = 0): Html | string {
  const { properties = {}, required = [] } = objectIn(doc, schema);
  const names = Object.keys(properties);
  if (names.length === 0 || depth === DEPTH_MAX) return "";
  return html`<ul class="fields">
    ${names.map((name) => field(doc, name, properties[name] ?? {}, way, required.includes(name), depth))}
  </ul>`;
}

export function field(doc: Doc, name: string, schema: Schema, way: Way, needed = false, depth = 0): Html {
  const says = schema.description ?? resolve(doc, schema).description;
  const limits = way === "sent" ? limitsOf(resolve(doc, schema)) : "";
  return html`<li>
    <span class="name">${name}</span
    ><span class="type">${typeOf(doc, schema)}</span
    >${needed && way === "sent" ? html`<span class="needed">needed</span>` : ""}
    ${says === undefined ? "" : html`<span class="says">${prose(says)}</span>`}
    ${limits === "" ? "" : html`<span class="limits">${limits}</span>`} ${fields(doc, schema, way, depth + 1)}
  </li>`;
}

function objectIn(doc: Doc, schema: Schema): Schema {
  const plain = resolve(doc, schema);
  if (plain.items !== undefined) return objectIn(doc, plain.items);
  if (typeof plain.additionalProperties === "object") return objectIn(doc, plain.additionalProperties);
  const choice = plain.anyOf?.find((one) => resolve(doc, one).type !== "null");
  return choice === undefined ? plain : objectIn(doc, choice);
}

export function typeOf(doc: Doc, schema: Schema): string {
  const plain = resolve(doc, schema);
  if (plain.const !== undefined) return JSON.stringify(plain.const);
  if (plain.enum !== undefined) return plain.enum.map(String).join(" | ");
  if (plain.anyOf !== undefined) return plain.anyOf.map((one) => typeOf(doc, one)).join(" or ");
  if (plain.items !== undefined) return `list of ${typeOf(doc, plain.items)}`;
  if (typeof plain.additionalProperties === "object" && plain.properties === undefined) {
    return `object: name to ${typeOf(doc, plain.additionalProperties)}`;
  }
  const types = [plain.type ?? "any JSON"].flat().join(" or ");
  return plain.format === undefined ? types : `${types} (${plain.format})`;
}

function limitsOf(schema: Schema): string {
  const said: string[] = [];
  const say = (label: string, value: unknown) =>
    value === undefined ? 0 : said.push(`${label} ${JSON.stringify(value)}`);
  say("at least", schema.minimum);
  say("more than", schema.exclusiveMinimum);
  // A maximum of 2^53 - 1 is only the range of JSON integers and is not shown.
  if (schema.maximum !== Number.MAX_SAFE_INTEGER) say("at most", schema.maximum);
  say("shortest", schema.minLength);
  say("longest", schema.maxLength);
  say("fewest", schema.minItems);
  say("most", schema.maxItems);
  if (schema.pattern !== undefined && schema.format === undefined) said.push(`matches ${schema.pattern}`);
  say("by default", schema.default);
  return said.join(", ");
}
