/** A tenant's keys. A key is returned only by the call that creates it. */
import { z } from "zod";
import { forgetCallers } from "../auth.ts";
import { createKey, type KeySettings, patchKey } from "../db/caller-queries.ts";
import { firstSuccessor, keyById, pageOfKeys, tenantById } from "../db/list-queries.ts";
import type { KeyRow } from "../db/queries.ts";
import { config, type Env } from "../env.ts";
import { makeKey } from "../caller/keys.ts";
import { invalid, isRefusal, refuse } from "../refusal.ts";
import { KeyCreate, KeyPatch, KeyRotate } from "../caller/tenant.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { KeyView, keyView, NewKeyView } from "./views.ts";

const KeysQuery = PageQuery.extend({
  tenant: z.string().max(64).optional().meta({ description: "Only this tenant's keys." }),
});

const tag = "Keys";
const one = { description: "The key's record, without the secret.", schema: KeyView };
const made = { description: "The new key, shown only once.", schema: NewKeyView };
type Named<B> = Call<B, unknown, "id">;

export const keyRoutes: Route[] = [
  route({
    method: "POST",
    path: "/v1/tenants/{id}/keys",
    role: "admin",
    tag,
    summary: "Create a key for a tenant",
    description: "Default: all scopes and all services.",
    body: KeyCreate,
    answers: { 201: made },
    run: (call) => attempt(() => create(call)),
  }),
  route({
    method: "POST",
    path: "/v1/keys/{id}/rotate",
    role: "admin",
    tag,
    summary: "Replace a key",
    description:
      "The old key works for another `overlap_s` seconds (default 0: it is revoked at once). The new key keeps the name, scopes, services and expiry.",
    body: KeyRotate,
    answers: { 201: made },
    run: (call) => attempt(() => rotate(call)),
  }),
  route({
    method: "GET",
    path: "/v1/keys",
    role: "read",
    tag,
    summary: "List keys",
    query: KeysQuery,
    answers: { 200: { description: "Keys, the oldest first.", schema: listOf(KeyView) } },
    run: async ({ env, query }) => {
      const from = positionOf(query.cursor, z.tuple([z.int(), z.string()]));
      if (isRefusal(from)) return from;
      const rows = await pageOfKeys(env, query.tenant, from.at, query.limit);
      return page(rows, query.limit, (row) => [row.createdAt, row.id], keyView);
    },
  }),
  route({
    method: "PATCH",
    path: "/v1/keys/{id}",
    role: "admin",
    tag,
    summary: "Change a key",
    description: "Null removes the name, a restriction or the expiry. A revoked key cannot be changed.",
    body: KeyPatch,
    answers: { 200: one },
    run: (call) => attempt(() => patch(call)),
  }),
  route({
    method: "DELETE",
    path: "/v1/keys/{id}",
    role: "admin",
    tag,
    summary: "Revoke a key",
    description: "The key stops working everywhere within 10 s. It stays in the list.",
    answers: { 204: { description: "Revoked.", schema: null } },
    run: (call) => attempt(() => revoke(call)),
  }),
];

async function create(call: Named<z.output<typeof KeyCreate>>): Promise<Changed<Answer>> {
  const { env, actor, params, body } = call;
  if ((await tenantById(env, params.id)) === null) return refuse("not_found");
  const { key, row } = await newKey(env, params.id, actor, {
    name: body.name ?? null,
    scopes: body.scopes ?? null,
    services: body.services ?? null,
    expiresAt: body.expires_at === undefined ? null : Date.parse(body.expires_at),
    rotatedFrom: null,
  });
  const after = keyView(row);
  const outcome = await createKey(env, row, changeOf(call, "key.create", row.id, null, after));
  if (outcome !== "done") return outcome;
  return { status: 201, body: { ...after, key } };
}

async function rotate(call: Named<z.output<typeof KeyRotate>>): Promise<Changed<Answer>> {
  const { env, actor, params, body } = call;
  const before = await keyById(env, params.id);
  if (before === null) return refuse("not_found");
  const now = Date.now();
  if (before.state === "revoked") return invalid("id", "key_revoked");
  if (before.expiresAt !== null && before.expiresAt <= now) return invalid("id", "key_expired");
  if (before.state !== "active") return invalid("id", "key_disabled");
  // A key that was rotated before expires with that overlap; its original expiry is the first successor's.
  const earlier = await firstSuccessor(env, before);
  const expiresAt = earlier === null ? before.expiresAt : earlier.expiresAt;
  const { key, row } = await newKey(env, before.tenantId, actor, { ...before, expiresAt, rotatedFrom: before.id });
  const overlapMs = (body.overlap_s ?? 0) * 1000;
  const after: KeySettings =
    overlapMs === 0
      ? { ...settings(before), state: "revoked", revokedAt: now }
      : { ...settings(before), expiresAt: Math.min(before.expiresAt ?? Infinity, now + overlapMs) };
  const change = changeOf(call, "key.rotate", params.id, keyView(before), {
    ...keyView({ ...before, ...after }),
    rotated_to: row.id,
  });
  const outcome = await patchKey(env, before, after, row, change);
  if (outcome !== "done") return outcome;
  forgetCallers();
  return { status: 201, body: { ...keyView(row), key } };
}

async function patch(call: Named<z.output<typeof KeyPatch>>): Promise<Changed<Answer>> {
  const { env, params, body } = call;
  const before = await keyById(env, params.id);
  if (before === null) return refuse("not_found");
  if (before.state === "revoked") return invalid("id", "key_revoked");
  const expiresAt = typeof body.expires_at === "string" ? Date.parse(body.expires_at) : body.expires_at;
  const after: KeySettings = {
    name: body.name === undefined ? before.name : body.name,
    scopes: body.scopes === undefined ? before.scopes : body.scopes,
    services: body.services === undefined ? before.services : body.services,
    expiresAt: expiresAt === undefined ? before.expiresAt : expiresAt,
    state: body.state ?? before.state,
    revokedAt: null,
  };
  return write(call, before, after, "key.patch");
}

async function revoke(call: Named<unknown>): Promise<Changed<Answer>> {
  const before = await keyById(call.env, call.params.id);
  if (before === null) return refuse("not_found");
  const gone: Answer = { status: 204, body: null };
  if (before.state === "revoked") return gone;
  const changed = await write(
    call,
    before,
    { ...settings(before), state: "revoked", revokedAt: Date.now() },
    "key.revoke",
  );
  return typeof changed === "string" ? changed : gone;
}

/** Writes a change to a key and returns its view. */
async function write(
  call: Named<unknown>,
  before: KeyRow,
  after: KeySettings,
  action: string,
): Promise<Changed<Answer>> {
  const shown = keyView({ ...before, ...after });
  if (JSON.stringify(shown) !== JSON.stringify(keyView(before))) {
    const outcome = await patchKey(
      call.env,
      before,
      after,
      null,
      changeOf(call, action, before.id, keyView(before), shown),
    );
    if (outcome !== "done") return outcome;
  }
  forgetCallers();
  return { status: 200, body: shown };
}

function settings({ name, scopes, services, expiresAt, state, revokedAt }: KeyRow): KeySettings {
  return { name, scopes, services, expiresAt, state, revokedAt };
}

async function newKey(
  env: Env,
  tenantId: string,
  createdBy: string,
  more: Pick<KeyRow, "name" | "scopes" | "services" | "expiresAt" | "rotatedFrom">,
): Promise<{ key: string; row: KeyRow }> {
  const { id, key, hash, tail } = await makeKey(config(env).keySecret, "ptk");
  const { name, scopes, services, expiresAt, rotatedFrom } = more;
  const settled = { state: "active" as const, createdAt: Date.now(), createdBy, revokedAt: null, lastUsedAt: null };
  return { key, row: { id, tenantId, name, hash, tail, scopes, services, expiresAt, rotatedFrom, ...settled } };
}
