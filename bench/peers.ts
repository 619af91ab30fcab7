/**
 * HAProxy and nginx as child processes on a free port, with their configuration in a temporary folder.
 *
 * nginx is the reference: least_conn, max_conns=2 with a shared zone, at most 12 in all and 6 per address, 503 beyond
 * that, three tries in 30 s. It sends `Retry-After: 1` with its 503, and polite users obey it. HAProxy has a queue,
 * which nginx lacks: leastconn, maxconn 2, 60 s, retries for every method, health checks twice a second.
 */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CardPlace } from "./cards.ts";
import type { Contender, Door } from "./contenders.ts";
import { nginxConfig } from "./nginx.ts";
import { freePort, makeFolder, startServer } from "./program.ts";

/** They keep no state, so they are back as soon as they run. */
const RECOVERY_MS = 14_000;
const FOLDERS = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];

/** The path of a program; null if it is not installed. */
export function find(program: string): string | null {
  const folder = FOLDERS.find((each) => each !== "" && existsSync(join(each, program)));
  return folder === undefined ? null : join(folder, program);
}

const installs = (program: string, packages: string) => (): string | null =>
  find(program) === null ? `not installed: apt-get install -y ${packages}` : null;

type Names = Pick<Contender, "name" | "title" | "part" | "alone">;

export function haproxy({ abortonclose, ...names }: Names & { abortonclose: boolean }): Contender {
  return {
    ...names,
    isHasty: false,
    isRenewed: true,
    recoveryMs: RECOVERY_MS,
    missing: installs("haproxy", "haproxy"),
    open: (cards) =>
      openPeer(
        "haproxy",
        (port) => haproxyConfig(cards, port, abortonclose),
        (file) => ["-db", "-q", "-f", file],
      ),
  };
}

export function nginx(names: Names & Pick<Contender, "isHasty">): Contender {
  return {
    ...names,
    isRenewed: true,
    recoveryMs: RECOVERY_MS,
    missing: installs("nginx", "nginx-light"),
    open: (cards) =>
      openPeer(
        "nginx",
        (port, folder) => nginxConfig(folder, 2, 4096, limiting(cards, port)),
        (file, folder) => ["-p", folder, "-c", file],
      ),
  };
}

async function openPeer(
  program: string,
  config: (port: number, folder: string) => string,
  args: (file: string, folder: string) => string[],
): Promise<Door> {
  const { path: folder, remove } = await makeFolder();
  const port = await freePort();
  const file = join(folder, "config");
  await writeFile(file, config(port, folder));
  const begin = () => startServer(find(program) ?? program, args(file, folder), port);
  let server = await begin();
  const target = { port, headers: {} };
  const restart = async (): Promise<void> => {
    await server.kill();
    server = await begin();
  };
  const close = async (): Promise<void> => {
    await server.stop();
    await remove();
  };
  return { target: () => target, restart, close };
}

function haproxyConfig(cards: readonly CardPlace[], port: number, abortonclose: boolean): string {
  const servers = cards.map(
    ({ card, port: own }) => `  server ${card} 127.0.0.1:${own} maxconn 2 check inter 500ms fall 2`,
  );
  return `global
  nbthread 2
  maxconn 4000
defaults
  mode http
  timeout connect 30s
  timeout client 300s
  timeout server 300s
  timeout queue 60s
  timeout http-keep-alive 300s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response 500 502 503 504
${abortonclose ? "  option abortonclose\n" : ""}frontend door
  bind 127.0.0.1:${port}
  default_backend cards
backend cards
  balance leastconn
  option httpchk GET /sdapi/v1/progress
${servers.join("\n")}
`;
}

/** The reference configuration of nginx. */
function limiting(cards: readonly CardPlace[], port: number): string {
  const servers = cards.map(
    ({ port: own }) => `    server 127.0.0.1:${own} weight=1 max_conns=2 max_fails=3 fail_timeout=30s;`,
  );
  return `  limit_conn_zone $server_name zone=cluster:1m;
  limit_conn_zone $binary_remote_addr zone=address:10m;
  limit_conn_status 503;
  keepalive_timeout 300s;
  keepalive_requests 1000000;
  upstream cards {
    zone cards 256k;
    least_conn;
${servers.join("\n")}
    keepalive 64;
  }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    server_name cluster;
    client_max_body_size 100m;
    error_page 502 503 504 @refused;
    location / {
      limit_conn cluster 12;
      limit_conn address 6;
      proxy_pass http://cards;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
      proxy_connect_timeout 30s;
      proxy_send_timeout 60s;
      proxy_read_timeout 300s;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
      proxy_next_upstream_tries 3;
      proxy_next_upstream_timeout 30s;
    }
    location @refused {
      default_type application/json;
      add_header Retry-After 1 always;
      return 503 '{"error":"busy"}';
    }
  }
`;
}
