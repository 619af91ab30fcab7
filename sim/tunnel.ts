/**
 * What is between callers and a card: the tunnel's error page when it is down, and the check of the service token. None
 * of this reaches the GPU.
 */
import { timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { z } from "zod";
import { sendPage } from "./delivery.ts";
import type { Exchange } from "./exchange.ts";
import type { Fault } from "./faults.ts";

export const tokenSchema = z.strictObject({
  client_id: z.string().min(1),
  client_secret: z.string().min(1),
  /** What a caller without the token gets: a 403 page, or a 302 to the login. */
  deny: z.enum(["page", "login"]).default("page"),
});
export type ServiceToken = z.output<typeof tokenSchema>;
export type ServiceTokenInput = z.input<typeof tokenSchema>;

const LOGIN = "https://access.example/cdn-cgi/access/login/card";
const EDGE = {
  server: "cloudflare",
  "cf-ray": "0000000000000000-SIM",
  "cache-control": "private, no-store",
} as const;

function page(title: string, text: string): string {
  return `<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>${title}</title></head>\n<body><h1>${title}</h1><p>${text}</p></body></html>\n`;
}

export function carriesToken(headers: IncomingHttpHeaders, token: ServiceToken): boolean {
  return (
    same(headers["cf-access-client-id"], token.client_id) &&
    same(headers["cf-access-client-secret"], token.client_secret)
  );
}

function same(given: string | string[] | undefined, wanted: string): boolean {
  if (typeof given !== "string") return false;
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

export function sendDenied(exchange: Exchange, how: "page" | "login", status = 403): void {
  if (how === "login") sendPage(exchange, 302, { ...EDGE, location: LOGIN }, "");
  else sendPage(exchange, status, EDGE, page("Forbidden", "You do not have permission to view this page."));
}

/** Answers in place of the card if the fault is on the way to it. Returns whether it did. */
export function answerOnTheWay(exchange: Exchange, fault: Fault): boolean {
  if (fault.kind === "tunnel_down") {
    sendPage(
      exchange,
      530,
      EDGE,
      page(
        "Tunnel error",
        "The host is set up as a tunnel, and no connection of that tunnel is there to take the request. Error code: 1033",
      ),
    );
  } else if (fault.kind === "access_denied") {
    sendDenied(exchange, fault.strict ? "page" : "login", fault.status);
  } else if (fault.kind === "redirect") {
    sendPage(exchange, fault.status, { location: fault.location }, "");
  } else return false;
  return true;
}
