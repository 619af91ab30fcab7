/**
 * The OpenAPI 3.1 document of every call, built from the schemas that validate requests. Built on first use, so that it
 * does not delay the start of the isolate.
 */
import { createDocument } from "zod-openapi";
import pack from "../../package.json" with { type: "json" };
import { adminPaths } from "./admin.ts";
import { falPaths } from "./fal-dialect.ts";
import { jobPaths } from "./jobs.ts";
import { nativePaths } from "./native.ts";
import { openAiPaths } from "./openai-dialect.ts";
import { operatePaths } from "./operate.ts";
import { reasonTable } from "./parts.ts";
import { replicatePaths } from "./replicate-dialect.ts";
import { webhookCalls, webhookPaths } from "./webhooks.ts";

const TAGS = [
  { name: "Services' own APIs", description: "The routes of the services, with the origin's own API below them." },
  { name: "OpenAI dialect", description: "Calls for clients of OpenAI's API; models are services." },
  { name: "Replicate dialect", description: "Calls for clients of Replicate's API; predictions are jobs." },
  { name: "fal dialect", description: "Calls for clients of fal's API; apps are services, requests are jobs." },
  { name: "Results", description: "Finished images and sounds, and the state of requests." },
  { name: "Usage", description: "Requests, GPU time and cost, per day." },
  { name: "Jobs", description: "Work that goes on without its caller." },
  {
    name: "Webhooks",
    description: "Calls to your URL when a job has ended; deliveries, and the secret that signs them.",
  },
  { name: "Services", description: "Each service is one model behind one public route." },
  { name: "Cards", description: "Each card is one GPU, listed in one or more services." },
  { name: "Tenants", description: "Customers and their limits." },
  { name: "Keys", description: "The API keys of tenants." },
  { name: "Operators", description: "People and machines that run the deployment, with their roles." },
  { name: "Ledger", description: "Held slots, and the audit log of operators' changes." },
  { name: "Operation", description: "Health, readiness and live numbers; no credential is needed." },
];

const SECURITY = {
  tenantKey: {
    type: "http",
    scheme: "bearer",
    description: "A tenant's key `ptk_live_...`; the schemes `Key`, `Token` and Basic (as password) are accepted too.",
  },
  apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: "A tenant's key." },
  operatorToken: {
    type: "http",
    scheme: "bearer",
    description: "The admin token, or an operator's `pto_live_...`. It takes precedence over an Access assertion.",
  },
  accessAssertion: {
    type: "apiKey",
    in: "header",
    name: "Cf-Access-Jwt-Assertion",
    description:
      "Set by Cloudflare Access, where the deployment names its application; or its cookie `CF_Authorization`. A call that changes something then needs this host's own `Origin` and `Content-Type: application/json`.",
  },
  cardToken: { type: "http", scheme: "bearer", description: "The token of a card's own agent, `ptc_...`." },
  signedUrl: {
    type: "apiKey",
    in: "query",
    name: "sig",
    description: "A signed URL: `exp`, `kid` and `sig` in the query, and no key.",
  },
} as const;

const DESCRIPTION = `The front door of GPU cards: one public API in front of the cards of each service, with keys, limits, a fair waiting room, failover and a result cache.

Every refusal is one object, \`error\`, with a stable \`code\` and \`reason\`. 429 is the tenant's policy, 503 is capacity; both carry \`Retry-After\`.

Pages in a browser (CORS) may call with a tenant's keys from the tenant's \`origins\`, and read results by signed URLs from anywhere; never with cookies.`;

export type OpenApiDocument = ReturnType<typeof createDocument>;

let built: OpenApiDocument | undefined;

export function openApiDocument(): OpenApiDocument {
  built ??= createDocument({
    openapi: "3.1.1",
    info: { title: "Portico", version: pack.version, description: DESCRIPTION },
    servers: [{ url: "/" }],
    tags: TAGS,
    paths: {
      ...nativePaths(),
      ...openAiPaths(),
      ...replicatePaths(),
      ...falPaths(),
      ...jobPaths(),
      ...webhookPaths(),
      ...adminPaths(),
      ...operatePaths(),
    },
    webhooks: webhookCalls(),
    components: { securitySchemes: SECURITY },
    "x-reasons": reasonTable,
  });
  return built;
}
