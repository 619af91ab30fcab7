import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { post, Wire } from "../../bench/wire.ts";

const LENGTH_2 = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const REQUEST = post("/path", { authorization: "Bearer key" }, '{"a":"ü"}');

const opened: { server: Server; sockets: Set<Socket> }[] = [];
const wires: Wire[] = [];

/** Starts a server that passes each request to `answer`, and records its connections. */
async function serve(
  answer: (socket: Socket, request: string) => void,
): Promise<{ wire: Wire; connections: number[] }> {
  const sockets = new Set<Socket>();
  const connections: number[] = [];
  const server = createServer((socket) => {
    connections.push(sockets.size);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (data) => answer(socket, String(data)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.push({ server, sockets });
  const address = server.address();
  const wire = new Wire(typeof address === "object" ? (address?.port ?? 0) : 0, "127.0.0.1");
  wires.push(wire);
  return { wire, connections };
}

afterEach(async () => {
  for (const wire of wires.splice(0)) wire.hangUp();
  for (const { server, sockets } of opened.splice(0)) {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  }
});

test("one connection carries several requests, each of them complete", async () => {
  const requests: string[] = [];
  const { wire, connections } = await serve((socket, request) => {
    requests.push(request);
    socket.write(LENGTH_2);
  });
  for (let i = 0; i < 3; i++) expect((await wire.send(REQUEST)).status).toBe(200);
  expect(connections).toHaveLength(1);
  expect(requests[0]).toBe(
    "POST /path HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer key\r\n" +
      'content-length: 10\r\n\r\n{"a":"ü"}',
  );
});

test("after a closing answer or a broken connection, the next request opens a new connection", async () => {
  let turn = 0;
  const { wire, connections } = await serve((socket) => {
    turn++;
    if (turn === 1) socket.end("HTTP/1.1 503 Busy\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
    else if (turn === 2) socket.resetAndDestroy();
    else socket.write(LENGTH_2);
  });
  expect(await wire.send(REQUEST)).toEqual({ status: 503, retryAfterMs: 1_000, serverTiming: "" });
  expect((await wire.send(REQUEST)).status).toBe(0);
  expect((await wire.send(REQUEST)).status).toBe(200);
  expect(connections).toHaveLength(3);
});

test("a body without a length ends with the connection", async () => {
  const { wire } = await serve((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\nwhat there is"));
  expect((await wire.send(REQUEST)).status).toBe(200);
});

test("hanging up gives status 0 at once and resets the connection at the server", async () => {
  const broke: Promise<unknown>[] = [];
  const { wire } = await serve((socket) => broke.push(once(socket, "error")));
  const answer = wire.send(REQUEST);
  while (broke.length === 0) await delay(5);
  wire.hangUp();
  expect((await answer).status).toBe(0);
  expect(await Promise.all(broke)).toMatchObject([[{ code: "ECONNRESET" }]]);
});

test("a refused connection gives status 0", async () => {
  const { wire } = await serve(() => {});
  const [{ server } = { server: null }] = opened.splice(0);
  server?.close();
  expect((await wire.send(REQUEST)).status).toBe(0);
});

test("two concurrent requests on one connection throw", async () => {
  const { wire } = await serve(() => {});
  void wire.send(REQUEST);
  expect(() => wire.send(REQUEST)).toThrow("already");
});
