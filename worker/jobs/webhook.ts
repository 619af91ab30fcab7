/** Where a job's end is told: what callers may name. */
import { z } from "zod";
import type { JobWebhook } from "../../durable-objects/job-protocol.ts";
import { config, type Env } from "../env.ts";
import { invalid } from "../json-body.ts";
import { originProblem } from "../origins.ts";
import type { Refusal } from "../refusal.ts";

/** Standard Webhooks: 24 to 64 bytes. */
const SECRET = /^whsec_(?:[A-Za-z0-9+/]{4}){8,22}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

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
  const problem = targetProblem(env, url);
  return problem === null ? { url, secret: secret ?? null } : invalid("webhook.url", problem);
}

/** Why nothing can be sent there, or null. Unlike an origin it may have a query. */
export function targetProblem(env: Env, url: string): string | null {
  const [plain = ""] = url.split(/[?#]/, 1);
  return originProblem(plain, config(env).local);
}
