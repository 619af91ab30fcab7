/** The boundary to the platform: turns raw bindings and variables into a checked Config. Only it reads variables. */
import { z } from "zod";
import type { Backlog } from "../durable-objects/backlog.ts";
import type { Card } from "../durable-objects/card.ts";
import type { AccessToken } from "../durable-objects/card-protocol.ts";
import type { Idempotency } from "../durable-objects/idempotency.ts";
import type { Courier } from "../durable-objects/courier.ts";
import type { Job } from "../durable-objects/job.ts";
import type { Pool } from "../durable-objects/pool.ts";
import type { Tenant } from "../durable-objects/tenant.ts";

/** What the runtime provides, as declared in wrangler.toml. Secrets may be missing; `config` checks them. */
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
  /** One instance per try of a job. */
  RUN_JOB: Workflow<RunParams>;
  /** Counts wrong checksums per client address. */
  GUESSES: RateLimit;
  /** Flood guard in front of the result cache, per key. */
  FLOOD: RateLimit;
  /** Local mode only: a network that reaches public addresses alone. Production cannot reach others anyway. */
  OUTSIDE?: Fetcher;
  /** The platform's image service. Without it, results are not available in other sizes and formats. */
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

/** Parameters of a Workflow instance. */
export interface RunParams {
  job: string;
  run: number;
}

const secret = z.string().min(32, "must have at least 32 characters");

const Named = z.object({
  /** Set only by `npm start` and by tests: allows http://127.0.0.1 origins. */
  LOCAL_MODE: z.enum(["true", "false"]).default("false"),
  PUBLIC_URL: z.union([z.literal(""), z.url()]).default(""),
  KEY_SECRET: secret,
  ADMIN_TOKEN: secret.optional(),
  /** `kid:secret,kid:secret`: the first key signs, all verify. */
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
    message: "must be set together with ACCESS_TEAM_DOMAIN",
  },
).refine((v) => v.ACCESS_TEAM_DOMAIN === "" || isTeamDomain(v.ACCESS_TEAM_DOMAIN, v.LOCAL_MODE === "true"), {
  path: ["ACCESS_TEAM_DOMAIN"],
  message: "must be https://<team>.cloudflareaccess.com",
});

/** Must be a bare origin, because tokens name it exactly as their issuer. */
function isTeamDomain(text: string, local: boolean): boolean {
  const url = URL.parse(text);
  if (url === null || url.origin !== text) return false;
  return url.protocol === "https:" || (local && url.protocol === "http:" && url.hostname === "127.0.0.1");
}

export interface Config {
  local: boolean;
  /** Without a trailing slash. Null: use the address that the request came to. */
  publicUrl: string | null;
  keySecret: string;
  /** Null: `/admin` is closed. */
  adminToken: string | null;
  urlKeys: [kid: string, secret: string][];
  /** Cloudflare Access service token, sent only to listings whose transport is `tunnel`. */
  access: AccessToken | null;
  /** The Cloudflare Access application in front of the operators' paths. Null: Access headers are not trusted. */
  accessApp: AccessApp | null;
}

export interface AccessApp {
  /** `https://<team>.cloudflareaccess.com` */
  issuer: string;
  audience: string;
}

let checked: { env: Env; config: Config } | undefined;

/** Returns the configuration, checked once per isolate. An invalid variable fails the first request, naming it. */
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

/** Our host as the caller named it, when `PUBLIC_URL` is not set; otherwise null. */
export function unsureHost(env: Env, base: string): string | null {
  return config(env).publicUrl === null ? new URL(base).host : null;
}
