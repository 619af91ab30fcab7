/**
 * Rows of the admin API's route table. A row contains all that serving a call and describing it in the OpenAPI document
 * need, so that the two cannot differ. `serve` handles every call: authenticate (1), authorize (2), parse the query
 * (3), parse the body (4), run (5).
 */
import type { Context } from "hono";
import type { z } from "zod";
import { renderRefusal } from "../dialects/native.ts";
import type { Env } from "../env.ts";
import { isRefusal, type Refusal } from "../refusal.ts";
import type { App, Trace } from "../trace.ts";
import { checkedBody, checkFields } from "../api/json-body.ts";
import { mayAct, operatorOf, refuseOtherCard, type Role } from "./operator.ts";

const BODY = { bytesMax: 1024 * 1024, depthMax: 64 };

export type Method = "GET" | "PUT" | "POST" | "PATCH" | "DELETE";

/** The names in braces of a path. */
type Names<P extends string> = P extends `${string}{${infer N}}${infer Rest}` ? N | Names<Rest> : never;

export interface Call<Body, Query, Name extends string> {
  env: Env;
  trace: Trace;
  /** The actor in the audit log: an operator's name, or a card's id. */
  actor: string;
  params: Record<Name, string>;
  body: Body;
  query: Query;
}

/** `body: null`: no response body. */
export interface Answer {
  status: 200 | 201 | 202 | 204;
  body: object | null;
}

interface Described {
  /** Below `/admin`, with parameter names in braces. */
  path: string;
  method: Method;
  /** The role that the operator needs; `card`: the card's own token instead. */
  role: Role | "card";
  tag: string;
  summary: string;
  description?: string;
  body?: z.ZodType;
  query?: z.ZodObject;
  /** `csv`: also available as CSV, if the caller prefers that. */
  answers: Partial<Record<Answer["status"], { description: string; schema: z.ZodType | null; csv?: true }>>;
}

/** A row without the types of its call, so that all rows fit one list. `route` has checked them. */
export interface Route extends Described {
  run(call: Call<unknown, unknown, string>): Promise<Answer | Response | Refusal>;
}

/** Defines a row; the types of its call come from its schemas and path. */
export function route<P extends string, B extends z.ZodType = z.ZodUndefined, Q extends z.ZodType = z.ZodUndefined>(
  row: Described & {
    path: P;
    body?: B;
    query?: Q;
    run(call: Call<z.output<B>, z.output<Q>, Names<P>>): Promise<Answer | Response | Refusal>;
  },
): Route {
  return row;
}

export async function serve(c: Context<App>, row: Route): Promise<Response> {
  const trace = c.get("trace");
  const answer = await answerTo(c, row);
  if (isRefusal(answer)) return renderRefusal(answer, trace);
  if (answer instanceof Response) return answer;
  const { status, body } = answer;
  return body === null ? new Response(null, { status }) : Response.json(body, { status });
}

async function answerTo(c: Context<App>, row: Route): Promise<Answer | Response | Refusal> {
  const trace = c.get("trace");
  const params: Record<string, string> = c.req.param();
  // (1) (2)
  const actor = await identify(c, row.role, params);
  if (isRefusal(actor)) return actor;
  trace.fields["actor"] = actor;
  // (3)
  const query = row.query === undefined ? null : checkFields(row.query, c.req.query());
  if (isRefusal(query)) return query;
  // (4)
  const body =
    row.body === undefined
      ? null
      : await checkedBody(c.req.raw, row.body, { ...BODY, emptyIsObject: row.method === "POST" });
  if (isRefusal(body)) return body;
  // (5)
  return row.run({ env: c.env, trace, actor, params, query: query?.body, body: body?.body });
}

async function identify(
  c: Context<App>,
  role: Role | "card",
  params: Record<string, string>,
): Promise<string | Refusal> {
  if (role === "card") {
    const card = params["card"] ?? "";
    return (await refuseOtherCard(c.env, c.req.raw.headers, card)) ?? card;
  }
  const operator = await operatorOf(c.env, c.req.raw);
  if (isRefusal(operator)) return operator;
  const denied = mayAct(operator, role);
  if (denied !== null) return denied;
  if (operator.id !== null) c.get("trace").credential = { of: "operator", id: operator.id };
  return operator.name;
}
