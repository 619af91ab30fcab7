/** Where a job's end is told, and what the telling is signed with: what callers may name, and what a tenant has. */
import { z } from "zod";
import type { JobWebhook } from "../../durable-objects/job-protocol.ts";
import { config, type Env } from "../env.ts";
import { invalid } from "../api/json-body.ts";
import { hmac } from "../caller/keys.ts";
import { originProblem } from "../services/origins.ts";
import type { Refusal } from "../refusal.ts";

/** Standard Webhooks: 24 to 64 bytes. The longest are 63 and the 64th. */
const SECRET =
  /^whsec_(?:(?:[A-Za-z0-9+/]{4}){8,21}(?:[A-Za-z0-9+/]{2}==)?|(?:[A-Za-z0-9+/]{4}){8,20}[A-Za-z0-9+/]{3}=)$/;

export const Webhook = z
  .strictObject({
    url: z.string().max(2048).meta({ description: "`https:`, to a public address." }),
    secret: z
      .string()
      .regex(SECRET, "`whsec_` and 24 to 64 bytes in base64")
      .optional()
      .meta({ description: "Default: the tenant's (`GET /v1/webhooks/secret`)." }),
  })
  .meta({ id: "Webhook" });

/** Checked when it is named, and again whenever something is sent there. */
export function webhookOf(env: Env, { url, secret }: z.output<typeof Webhook>): JobWebhook | Refusal {
  const problem = targetProblem(url, config(env).local);
  return problem === null ? { url, secret: secret ?? null, dialect: "native" } : invalid("webhook.url", problem);
}

/** Why nothing can be sent there, or null. Unlike an origin it may have a query, and any path. */
export function targetProblem(text: string, local: boolean): string | null {
  if (!URL.canParse(text)) return "is not a URL";
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") return "may not carry credentials";
  // What is allowed by its address is allowed in plain spelling alone.
  if (url.hostname === "127.0.0.1" && !/^http:\/\/127\.0\.0\.1(?![^:/?#])/.test(text)) return "must be a public host";
  return originProblem(`${url.protocol}//${url.host}`, local);
}

/** Of the tenant; derived, so that none is stored. `whsec_` and 32 bytes in plain base64, as every verifier reads it. */
export async function tenantSecret(env: Env, tenant: string, generation: number): Promise<string> {
  const bytes = await hmac(config(env).keySecret, "webhook-secret", `${tenant}\n${generation}`);
  return `whsec_${bytes.toBase64()}`;
}
