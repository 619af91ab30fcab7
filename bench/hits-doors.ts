/**
 * The contenders of the hits benchmark. All serve the same bytes: a sound, because a sound answer is itself the result.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Admin } from "../local/admin.ts";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { type OpenRuntime, openRuntime } from "./doors.ts";
import { nginxConfig } from "./nginx.ts";
import { find } from "./peers.ts";
import { freePort, makeFolder, startServer } from "./program.ts";
import { plain, post } from "./wire.ts";

/** Each key may make 5,000 hits in 10 s before the flood guard refuses. */
const KEYS = 64;
const RATE = 1_000_000;
const SPEECH = "/AIVoice/TTS/CosyVoice2/";
const HEAD_BYTES = 44;

export interface HitDoor {
  name: string;
  title: string;
  port: number;
  request: (turn: number) => Buffer;
}

/** An origin that answers every POST with a sound of a given size in bytes. */
export interface SoundOrigin {
  url: string;
  /** The number of runs requested. */
  runs: () => number;
  close: () => void;
}

export async function openSoundOrigin(bytes: number): Promise<SoundOrigin> {
  const sound = wav(bytes);
  let runs = 0;
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      runs++;
      response.writeHead(200, { "content-type": "audio/wav", "content-length": sound.length }).end(sound);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen({ port: 0, host: "127.0.0.1" }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, runs: () => runs, close: () => server.close() };
}

function wav(bytes: number): Buffer {
  const sound = Buffer.alloc(bytes);
  sound.write("RIFF", 0, "latin1");
  sound.writeUInt32LE(bytes - 8, 4);
  sound.write("WAVEfmt ", 8, "latin1");
  sound.writeUInt32LE(16, 16);
  sound.write("data", 36, "latin1");
  sound.writeUInt32LE(bytes - HEAD_BYTES, 40);
  return sound;
}

/** A request for a sound; the same text yields the same sound. */
export function speak(key: string, text: string): Buffer {
  return post(`${SPEECH}audio-generate`, { authorization: `Bearer ${key}` }, JSON.stringify({ text }));
}

/** Portico, its callers' keys, and the path of a signed result URL. */
export interface PorticoHits {
  runtime: OpenRuntime;
  keys: string[];
  signed: string;
}

/** `entry`: a file below bench/workers; null: the deployed Worker. */
export async function openPortico(origin: SoundOrigin, entry: string | null): Promise<PorticoHits> {
  const runtime = await openRuntime((folder) =>
    entry === null ? bundle() : bundle(join(ROOT, `bench/workers/${entry}.ts`), join(folder, entry)),
  );
  const admin = new Admin(runtime.url, runtime.secrets.ADMIN_TOKEN);
  await admin.call("PUT", "/services/speech", { kind: "tts", route: SPEECH });
  await admin.call("PUT", "/services/speech/cards/one", { origin: origin.url, slots: 64 });
  const limits = { requests_per_minute: RATE, burst: RATE, concurrent: 64, waiting: 1_000 };
  const { id } = await admin.call<{ id: string }>("POST", "/tenants", { name: "hits", limits });
  const keys = await Promise.all(
    Array.from(
      { length: KEYS },
      async () => (await admin.call<{ key: string }>("POST", `/tenants/${id}/keys`, {})).key,
    ),
  );
  const headers = { authorization: `Bearer ${keys[0]}`, "content-type": "application/json" };
  const body = JSON.stringify({ text: "a hit" });
  const made = await fetch(`${runtime.url}${SPEECH}audio-generate`, { method: "POST", headers, body });
  await made.arrayBuffer();
  const [, signed] = /<https?:\/\/[^/]+([^>]+)>/.exec(made.headers.get("link") ?? "") ?? [];
  if (signed === undefined) throw new Error(`no result to read: ${made.status}`);
  return { runtime, keys, signed };
}

export function doorsOf({ runtime, keys, signed }: PorticoHits): HitDoor[] {
  const hit = keys.map((key) => speak(key, "a hit"));
  const result = plain("GET", signed, {});
  const { port } = runtime;
  return [
    { name: "hit", title: "Portico, a hit with its key", port, request: (turn) => hit[turn % KEYS] ?? result },
    { name: "result", title: "Portico, a signed result URL", port, request: () => result },
  ];
}

export async function openEdge(origin: SoundOrigin): Promise<{ door: HitDoor; close: () => Promise<void> }> {
  const runtime = await openRuntime((folder) => bundle(join(ROOT, "bench/workers/edge.ts"), join(folder, "edge")));
  const request = plain("GET", "/a-hit", { "x-origin": origin.url });
  const door = {
    name: "edge",
    title: "bare Worker and the platform's cache",
    port: runtime.port,
    request: () => request,
  };
  return { door, close: runtime.close };
}

export const nginxMissing = (): string | null =>
  find("nginx") === null ? "not installed: apt-get install -y nginx-light" : null;

export async function openNginx(origin: SoundOrigin): Promise<{ door: HitDoor; close: () => Promise<void> }> {
  const { path: folder, remove } = await makeFolder();
  const port = await freePort();
  const file = join(folder, "config");
  await writeFile(file, nginxConfig(folder, 1, 1024, caching(origin, port, folder)));
  const server = await startServer(find("nginx") ?? "nginx", ["-p", folder, "-c", file], port);
  const request = plain("GET", "/a-hit", {});
  const close = async (): Promise<void> => {
    await server.stop();
    await remove();
  };
  return { door: { name: "nginx", title: "nginx, proxy_cache", port, request: () => request }, close };
}

function caching(origin: SoundOrigin, port: number, folder: string): string {
  return `  sendfile on;
  keepalive_requests 100000000;
  proxy_cache_path ${folder}/cache keys_zone=hits:1m;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass ${origin.url};
      proxy_cache hits;
      proxy_cache_valid 200 1h;
    }
  }
`;
}
