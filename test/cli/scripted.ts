/** A fake deployment whose answers the test writes, for answers that a real one gives rarely or never. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface Heard {
  /** Method, and path with query. */
  call: string;
  token: string | null;
  accept: string | null;
  body: unknown;
}

/** An answer; null resets the connection. */
export type Said = { status?: number; headers?: Record<string, string>; body?: unknown } | null;

export interface Scripted {
  url: string;
  heard: Heard[];
  stop(): Promise<void>;
}

/** Starts a fake deployment. `say` gets the call and the number of identical calls before it. */
export async function scripted(say: (heard: Heard, before: number) => Said): Promise<Scripted> {
  const heard: Heard[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await text(request);
    const { authorization = null, accept = null } = request.headers;
    const now = {
      call: `${request.method} ${request.url}`,
      token: authorization,
      accept,
      body: body === "" ? null : (JSON.parse(body) as unknown),
    };
    const before = heard.filter(({ call }) => call === now.call).length;
    heard.push(now);
    const said = say(now, before);
    if (said === null) {
      request.socket.resetAndDestroy();
      return;
    }
    const { status = 200, headers = {}, body: told } = said;
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(told === undefined ? undefined : typeof told === "string" ? told : JSON.stringify(told));
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    heard,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const refusal = (status: number, error: Record<string, unknown>): Said => ({
  status,
  body: { error: { request_id: "req_test", param: null, ...error } },
});
