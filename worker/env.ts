/**
 * The boundary to the platform: raw bindings and variables in, a checked Config out. The only reader of variables.
 */
import { z } from "zod";
import type { Backlog } from "../durable-objects/backlog.ts";
import type { Card } from "../durable-objects/card.ts";
import type { Idempotency } from "../durable-objects/idempotency.ts";
import type { Courier } from "../durable-objects/courier.ts";
import type { Job } from "../durable-objects/job.ts";
import type { Pool } from "../durable-objects/pool.ts";
import type { Tenant } from "../durable-objects/tenant.ts";

/** What the runtime hands us, as wrangler.toml declares it. Secrets may be missing; `config` says what follows. */
export interface Env {
  DB: D1Database;
  RESULTS: R2Bucket;
  CARD: DurableObjectNamespace<Card>;
  POOL: DurableObjectNamespace<Pool>;
  TENANT: DurableObjectNamespace<Tenant>;
  JOB: DurableObjectNamespace<Job>;
  BACKLOG: DurableObjectNamespace<Backlog>;
  IDEMPOTENCY: DurableObjectNamespace<Idempotency>;
  COURIER: DurableObjectNamespace<Courier>;
  /** One instance a try of a job. */
  RUN_JOB: Workflow<RunParams>;
  /** Wrong checksums per client address. */
  GUESSES: RateLimit;
  /** Flood guard before the result cache, per key. */
  FLOOD: RateLimit;
  /** Reaches public addresses alone; local mode's. In production nothing else can be reached. */
  OUTSIDE?: Fetcher;
  /** The platform's image service; results come in other sizes and formats only where it is bound. */
  IMAGES?: ImagesBinding;
  LOCAL_MODE?: string;
  PUBLIC_URL?: string;
  KEY_SECRET?: string;
  ADMIN_TOKEN?: string;
  URL_KEYS?: string;
  ACCESS_CLIENT_ID?: string;
  ACCESS_CLIENT_SECRET?: string;
  ACCESS_TEAM_DOMAIN?: string;
  ACCESS_AUD?: string;
}

/** What a Workflow instance is made with. */
export interface RunParams {
  job: string;
  run: number;
}

const secret = z.string().min(32, "at least 32 characters");

const Named = z.object({
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
  ACCESS_TEAM_DOMAIN: z.string().default(""),
  ACCESS_AUD: z.string().default(""),
});

const Variables = Named.refine(
  ({ ACCESS_TEAM_DOMAIN, ACCESS_AUD }) => (ACCESS_TEAM_DOMAIN === "") === (ACCESS_AUD === ""),
  {
    path: ["ACCESS_AUD"],
    message: "is needed with ACCESS_TEAM_DOMAIN, and the other way round",
  },
).refine((v) => v.ACCESS_TEAM_DOMAIN === "" || isTeamDomain(v.ACCESS_TEAM_DOMAIN, v.LOCAL_MODE === "true"), {
  path: ["ACCESS_TEAM_DOMAIN"],
  message: "has to be https://<team>.cloudflareaccess.com",
});

/** Nothing but an origin, because tokens name it as their issuer letter by letter. */
function isTeamDomain(text: string, local: boolean): boolean {
  const url = URL.parse(text);
  if (url === null || url.origin !== text) return false;
  return url.protocol === "https:" || (local && url.protocol === "http:" && url.hostname === "127.0.0.1");
}

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
  /** The Cloudflare Access application in front of the operators' paths; null: what says that it comes from there is a lie. */
  accessApp: AccessApp | null;
}

export interface AccessApp {
  /** `https://<team>.cloudflareaccess.com` */
  issuer: string;
  audience: string;
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
    accessApp: v.ACCESS_AUD === "" ? null : { issuer: v.ACCESS_TEAM_DOMAIN, audience: v.ACCESS_AUD },
  };
  checked = { env, config: value };
  return value;
}

/** Our host as the caller named it, when no `PUBLIC_URL` says what it is; null when one does. */
export function unsureHost(env: Env, base: string): string | null {
  return config(env).publicUrl === null ? new URL(base).host : null;
}
