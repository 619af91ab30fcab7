/**
 * The boundary to the platform: raw bindings and variables in, a checked Config out. The only reader of variables.
 */
import { z } from "zod";
import type { Card } from "../durable-objects/card.ts";
import type { Pool } from "../durable-objects/pool.ts";
import type { Tenant } from "../durable-objects/tenant.ts";

/** What the runtime hands us, as wrangler.toml declares it. Secrets may be missing; `config` says what follows. */
export interface Env {
  DB: D1Database;
  RESULTS: R2Bucket;
  CARD: DurableObjectNamespace<Card>;
  POOL: DurableObjectNamespace<Pool>;
  TENANT: DurableObjectNamespace<Tenant>;
  /** Wrong checksums per client address. */
  GUESSES: RateLimit;
  /** Flood guard before the result cache, per key. */
  FLOOD: RateLimit;
  /** The platform's image service; results come in other sizes and formats only where it is bound. */
  IMAGES?: ImagesBinding;
  LOCAL_MODE?: string;
  PUBLIC_URL?: string;
  KEY_SECRET?: string;
  ADMIN_TOKEN?: string;
  URL_KEYS?: string;
  ACCESS_CLIENT_ID?: string;
  ACCESS_CLIENT_SECRET?: string;
}

const secret = z.string().min(32, "at least 32 characters");

const Variables = z.object({
  /** Set by `npm start` and by tests alone: allows http://127.0.0.1 origins. */
  LOCAL_MODE: z.enum(["true", "false"]).default("false"),
  PUBLIC_URL: z.union([z.literal(""), z.url()]).default(""),
  KEY_SECRET: secret,
  ADMIN_TOKEN: secret.optional(),
  /** `kid:secret,kid:secret`: the first signs, all verify. */
  URL_KEYS: z
    .string()
    .transform((text) => text.split(",").map((pair) => pair.trim().split(":")))
    .pipe(z.array(z.tuple([z.string().regex(/^[A-Za-z0-9_-]{1,32}$/), secret])).min(1)),
  ACCESS_CLIENT_ID: z.string().optional(),
  ACCESS_CLIENT_SECRET: z.string().optional(),
});

export interface Config {
  local: boolean;
  /** Without a trailing slash; null: the address that the request came to. */
  publicUrl: string | null;
  keySecret: string;
  /** Null: `/admin` is closed. */
  adminToken: string | null;
  urlKeys: [kid: string, secret: string][];
  /** Cloudflare Access service token, sent only to listings whose transport is `tunnel`. */
  access: { id: string; secret: string } | null;
}

let checked: { env: Env; config: Config } | undefined;

/** The checked configuration, once per isolate. A bad variable fails the first request with the variable's name. */
export function config(env: Env): Config {
  if (checked?.env === env) return checked.config;
  const parsed = Variables.safeParse(env);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new Error(`configuration: ${problems.join("; ")}`);
  }
  const v = parsed.data;
  const value: Config = {
    local: v.LOCAL_MODE === "true",
    publicUrl: v.PUBLIC_URL.replace(/\/+$/, "") || null,
    keySecret: v.KEY_SECRET,
    adminToken: v.ADMIN_TOKEN ?? null,
    urlKeys: v.URL_KEYS,
    access:
      v.ACCESS_CLIENT_ID && v.ACCESS_CLIENT_SECRET ? { id: v.ACCESS_CLIENT_ID, secret: v.ACCESS_CLIENT_SECRET } : null,
  };
  checked = { env, config: value };
  return value;
}

/** Our host as the caller named it, when no `PUBLIC_URL` says what it is; null when one does. */
export function unsureHost(env: Env, base: string): string | null {
  return config(env).publicUrl === null ? new URL(base).host : null;
}
