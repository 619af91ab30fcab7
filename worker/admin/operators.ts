/**
 * The admin calls of operators. The admin token exists beside them: it has no row, and no change here can lock it out.
 * An operator's token is returned only by the call that creates it.
 */
import { z } from "zod";
import type { Outcome } from "../db/commit.ts";
import {
  changeOperator,
  createOperator,
  operatorById,
  type OperatorRow,
  type OperatorSettings,
  pageOfOperators,
} from "../db/operator-queries.ts";
import { config } from "../env.ts";
import { makeKey } from "../caller/keys.ts";
import { wrong } from "../details.ts";
import { invalid, isRefusal, refuse } from "../refusal.ts";
import { KeyRotate } from "../caller/tenant.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { ADMIN, forgetOperators, Role } from "./operator.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { NewOperatorView, OperatorView, operatorView } from "./views.ts";

const Email = z
  .string()
  .trim()
  .toLowerCase()
  .max(254)
  .regex(/^[^\s@]+(@[^\s@]+|\.access)$/, wrong("operator_email"))
  .meta({ description: "Identity from Cloudflare Access: an e-mail address, or a service token's client id." });
const Name = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine((name) => name.toLowerCase() !== ADMIN.name, wrong("admin_name"))
  .meta({ description: "The actor in the audit log. A name is never reused for another operator." });
const Expiry = z.iso.datetime({ offset: true });

const OperatorCreate = z
  .strictObject({
    name: Name,
    role: Role.meta({ description: "`ops` includes `read`; `admin` includes both." }),
    email: Email.optional(),
    expires_at: Expiry.optional(),
    token: z.boolean().optional().meta({ description: "Whether the operator gets a token. Default true." }),
  })
  .meta({ id: "OperatorCreate" });
const OperatorPatch = z
  .strictObject({
    name: Name.optional(),
    role: Role.optional(),
    email: Email.nullable().optional(),
    expires_at: Expiry.nullable().optional(),
  })
  .meta({ id: "OperatorPatch" });

const path = "/v1/operators/{id}";
const tag = "Operators";
const one = { description: "The operator.", schema: OperatorView };
type Named<B> = Call<B, unknown, "id">;

export const operatorRoutes: Route[] = [
  route({
    method: "POST",
    path: "/v1/operators",
    role: "admin",
    tag,
    summary: "Create an operator",
    description: "An operator signs in with a token, through Cloudflare Access with its `email`, or both.",
    body: OperatorCreate,
    answers: { 201: { description: "The new operator, with its token, shown only once.", schema: NewOperatorView } },
    run: (call) => attempt(() => create(call)),
  }),
  route({
    method: "GET",
    path: "/v1/operators",
    role: "read",
    tag,
    summary: "List operators",
    query: PageQuery,
    answers: { 200: { description: "Operators, the oldest first.", schema: listOf(OperatorView) } },
    run: async ({ env, query }) => {
      const from = positionOf(query.cursor, z.tuple([z.int(), z.string()]));
      if (isRefusal(from)) return from;
      const rows = await pageOfOperators(env, from.at, query.limit);
      return page(rows, query.limit, (row) => [row.createdAt, row.id], operatorView);
    },
  }),
  route({
    method: "GET",
    path,
    role: "read",
    tag,
    summary: "Show an operator",
    answers: { 200: one },
    run: async ({ env, params }) => {
      const row = await operatorById(env, params.id);
      return row === null ? refuse("not_found") : { status: 200, body: operatorView(row) };
    },
  }),
  route({
    method: "PATCH",
    path,
    role: "admin",
    tag,
    summary: "Change an operator",
    description: "Null removes the e-mail address or the expiry. A change is in effect everywhere within 10 s.",
    body: OperatorPatch,
    answers: { 200: one },
    run: (call) => attempt(() => patch(call)),
  }),
  route({
    method: "DELETE",
    path,
    role: "admin",
    tag,
    summary: "Revoke an operator",
    description:
      "The operator is refused everywhere within 10 s. It stays in the list; its e-mail address can be used again.",
    answers: { 204: { description: "Revoked.", schema: null } },
    run: (call) => attempt(() => revoke(call)),
  }),
  route({
    method: "POST",
    path: `${path}/rotate`,
    role: "admin",
    tag,
    summary: "Replace an operator's token, or create its first",
    description: "The old token works for another `overlap_s` seconds; earlier tokens stop at once.",
    body: KeyRotate,
    answers: { 201: { description: "The operator, with its new token, shown only once.", schema: NewOperatorView } },
    run: (call) => attempt(() => rotate(call)),
  }),
];

async function create(call: Call<z.output<typeof OperatorCreate>, unknown, never>): Promise<Changed<Answer>> {
  const { env, actor, body } = call;
  const email = body.email ?? null;
  const withToken = body.token ?? true;
  if (!withToken && email === null) return invalid("email", "email_required");
  const { id, key, hash } = await makeKey(config(env).keySecret, "pto");
  const row: OperatorRow = {
    id,
    name: body.name,
    email,
    role: body.role,
    tokenHash: withToken ? hash : null,
    earlierHash: null,
    earlierUntil: null,
    state: "active",
    createdAt: Date.now(),
    createdBy: actor,
    expiresAt: body.expires_at === undefined ? null : Date.parse(body.expires_at),
    revokedAt: null,
    lastUsedAt: null,
  };
  const after = operatorView(row);
  const outcome = await createOperator(env, row, changeOf(call, "operator.create", id, null, after));
  if (outcome !== "done") return outcome;
  forgetOperators();
  return { status: 201, body: withToken ? { ...after, token: key } : after };
}

async function patch(call: Named<z.output<typeof OperatorPatch>>): Promise<Changed<Answer>> {
  const { env, params, body } = call;
  const before = await operatorById(env, params.id);
  if (before === null) return refuse("not_found");
  if (before.state === "revoked") return invalid("id", "operator_revoked");
  const expiresAt = typeof body.expires_at === "string" ? Date.parse(body.expires_at) : body.expires_at;
  const email = body.email === undefined ? before.email : body.email;
  if (email === null && before.tokenHash === null) return invalid("email", "email_required");
  const after = await write(call, "operator.patch", before, {
    name: body.name ?? before.name,
    role: body.role ?? before.role,
    email,
    expiresAt: expiresAt === undefined ? before.expiresAt : expiresAt,
  });
  return typeof after === "string" ? after : { status: 200, body: operatorView(after) };
}

async function revoke(call: Named<unknown>): Promise<Changed<Answer>> {
  const before = await operatorById(call.env, call.params.id);
  if (before === null) return refuse("not_found");
  const gone: Answer = { status: 204, body: null };
  if (before.state === "revoked") return gone;
  const after = await write(call, "operator.revoke", before, { state: "revoked", revokedAt: Date.now(), email: null });
  return typeof after === "string" ? after : gone;
}

async function rotate(call: Named<z.output<typeof KeyRotate>>): Promise<Changed<Answer>> {
  const { env, params, body } = call;
  const before = await operatorById(env, params.id);
  if (before === null) return refuse("not_found");
  const now = Date.now();
  if (before.state === "revoked") return invalid("id", "operator_revoked");
  if (before.expiresAt !== null && before.expiresAt <= now) return invalid("id", "operator_expired");
  const { key, hash } = await makeKey(config(env).keySecret, "pto", before.id);
  const after = await write(call, "operator.rotate", before, {
    tokenHash: hash,
    earlierHash: before.tokenHash,
    earlierUntil: before.tokenHash === null ? null : now + (body.overlap_s ?? 0) * 1000,
  });
  return typeof after === "string" ? after : { status: 201, body: { ...operatorView(after), token: key } };
}

/** Writes a change to an operator. Returns the changed row, or why nothing was written. */
async function write(
  call: Named<unknown>,
  action: string,
  before: OperatorRow,
  change: Partial<OperatorSettings>,
): Promise<OperatorRow | Exclude<Outcome, "done">> {
  const after = { ...before, ...change };
  if (JSON.stringify(after) === JSON.stringify(before)) return after;
  const told = changeOf(call, action, before.id, operatorView(before), operatorView(after));
  const outcome = await changeOperator(call.env, before, change, told);
  forgetOperators();
  return outcome === "done" ? after : outcome;
}
