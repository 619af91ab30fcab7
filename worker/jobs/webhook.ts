/** Webhook settings that callers may give with a job, and the tenants' signing secrets. */
import { z } from "zod";
import type { JobWebhook } from "../../durable-objects/job-protocol.ts";
import { config, type Env } from "../env.ts";
import { hmac } from "../caller/keys.ts";
import { originProblem } from "../services/origins.ts";
import { type PlainKey, wrong } from "../details.ts";
import { invalid, type Refusal } from "../refusal.ts";

/**
 * Standard Webhooks: 24 to 64 bytes. The first alternative takes up to 63 bytes without padding, and up to 64 with
 * `==`; the second takes those with `=`.
 */
const SECRET =
  /^whsec_(?:(?:[A-Za-z0-9+/]{4}){8,21}(?:[A-Za-z0-9+/]{2}==)?|(?:[A-Za-z0-9+/]{4}){8,20}[A-Za-z0-9+/]{3}=)$/;

export const Webhook = z
  .strictObject({
    url: z.string().max(2048).meta({ description: "`https:`, to a public address." }),
    secret: z
      .string()
      .regex(SECRET, wrong("webhook_secret"))
      .optional()
      .meta({ description: "Default: the tenant's (`GET /v1/webhooks/secret`)." }),
  })
  .meta({ id: "Webhook" });

/** The URL is checked here, and again before each attempt. */
export function webhookOf(env: Env, { url, secret }: z.output<typeof Webhook>): JobWebhook | Refusal {
  const problem = targetProblem(url, config(env).local);
  return problem === null ? { url, secret: secret ?? null, dialect: "native" } : invalid("webhook.url", problem);
}

/** Returns why the URL is not allowed as a target, or null. Unlike an origin it may have a query and any path. */
export function targetProblem(text: string, local: boolean): PlainKey | null {
  if (!URL.canParse(text)) return "url";
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") return "no_credentials";
  // The loopback address is allowed only in its canonical spelling.
  if (url.hostname === "127.0.0.1" && !/^http:\/\/127\.0\.0\.1(?![^:/?#])/.test(text)) return "public_host";
  return originProblem(`${url.protocol}//${url.host}`, local);
}

/**
 * The tenant's secret of this generation. Derived, so that none is stored. `whsec_` and 32 bytes in standard base64,
 * which every verifier can read.
 */
export async function tenantSecret(env: Env, tenant: string, generation: number): Promise<string> {
  const bytes = await hmac(config(env).keySecret, "webhook-secret", `${tenant}\n${generation}`);
  return `whsec_${bytes.toBase64()}`;
}
