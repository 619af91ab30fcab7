/**
 * The control API of a simulated park, on a port of its own:
 *
 *     GET    /cards                 every card with counts, sensors, fault, heartbeats; the sums of the park
 *     POST   /cards/ID/fault        sets a fault on one card ("*": on all)
 *     DELETE /cards/ID/fault        removes it ("*": from all)
 *     POST   /service               changes the timing; GET returns it
 *     POST   /token                 {"client_id","client_secret","deny"?,"card"?} or null
 *     POST   /heartbeats            {"url","tokens","every_ms"?,"change_ms"?} or null
 *     POST   /reset                 resets all counts
 *     GET    /runs?card=            the latest runs, oldest first
 *     GET    /heads?card=           the latest request heads of one card
 */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { UnknownCard } from "./card.ts";
import { faultSchema } from "./faults.ts";
import { portOf } from "./listener.ts";
import type { Park } from "./park.ts";
import { serviceSchema } from "./timing.ts";
import { tokenSchema } from "./tunnel.ts";

const BODY_BYTES_MAX = 1024 * 1024;

const heartbeatSchema = z.strictObject({
  url: z.url(),
  tokens: z.record(z.string(), z.string()),
  every_ms: z.number().min(10).max(3_600_000).optional(),
  change_ms: z.number().min(0).max(3_600_000).optional(),
});
const tokenCallSchema = tokenSchema.extend({ card: z.string().optional() });

/** A control call that is refused, with its status. */
class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export async function openControl(park: Park): Promise<{ readonly url: string; close(): void }> {
  const server = createServer((req, res) => void answer(park, req, res));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host: "127.0.0.1" }, resolve);
  });
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${portOf(server)}`, close };
}

async function answer(park: Park, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const [status, value] = await obey(park, req).then(
    (result) => [200, result] as const,
    (error: unknown) =>
      [statusOf(error), { error: error instanceof z.ZodError ? z.prettifyError(error) : String(error) }] as const,
  );
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify(value));
}

function statusOf(error: unknown): number {
  if (error instanceof Refused) return error.status;
  if (error instanceof UnknownCard) return 404;
  return error instanceof z.ZodError ? 400 : 500;
}

async function obey(park: Park, req: IncomingMessage): Promise<unknown> {
  // Otherwise any web page open on this machine could set faults.
  if (req.headers.origin !== undefined) throw new Refused(403, "not for browsers");
  const url = new URL(req.url ?? "/", "http://control");
  const card = url.searchParams.get("card") ?? undefined;
  const fault = /^\/cards\/([^/]+)\/fault$/.exec(url.pathname)?.[1];
  const names = fault === "*" ? park.cards.map((each) => each.card) : [decodeURIComponent(fault ?? "")];
  switch (fault === undefined ? `${req.method} ${url.pathname}` : `${req.method} fault`) {
    case "GET /cards":
      return { ...park.counts(), cards: park.reports() };
    case "POST fault": {
      const wanted = faultSchema.parse(await bodyOf(req));
      await Promise.all(names.map((name) => park.setFault(name, wanted)));
      return { fault: wanted };
    }
    case "DELETE fault":
      await Promise.all(names.map((name) => park.heal(name)));
      return { fault: null };
    case "GET /service":
      return park.service;
    case "POST /service":
      return park.setService(serviceSchema.partial().parse(await bodyOf(req)));
    case "POST /token": {
      const call = tokenCallSchema.nullable().parse(await bodyOf(req));
      const { card: only, ...token } = call ?? {};
      park.setToken(call === null ? null : tokenSchema.parse(token), only);
      return { ok: true };
    }
    case "POST /heartbeats":
      park.heartbeat(heartbeatSchema.nullable().parse(await bodyOf(req)));
      return { ok: true };
    case "POST /reset":
      park.reset();
      return { ok: true };
    case "GET /runs":
      return { runs: park.runs(card) };
    case "GET /heads":
      return { heads: park.heads(card ?? "") };
    default:
      throw new Refused(404, "no such call");
  }
}

async function bodyOf(req: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of req as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BODY_BYTES_MAX) throw new Refused(413, "too large");
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8"));
  } catch {
    throw new Refused(400, "not JSON");
  }
}
