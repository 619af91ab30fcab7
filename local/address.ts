/** The address that the front door listens on: checks that it is free before the start, and watches it afterwards. */
import { connect, createServer } from "node:net";

const PROBE_EVERY_MS = 2_000;
const PROBE_MS_MAX = 2_000;
/** One missed probe may be a runtime that restarts after a crash. */
const MISSED_MAX = 4;

export class AddressError extends Error {}

/** Throws an AddressError that explains why the front door cannot listen there. */
export async function needFree(host: string, port: number): Promise<void> {
  const server = createServer();
  const failure = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once("error", resolve);
    server.listen({ host, port, exclusive: true }, () => resolve(null));
  });
  if (failure !== null) throw new AddressError(reason(failure, host, port));
  await new Promise((resolve) => server.close(resolve));
}

function reason({ code, message }: NodeJS.ErrnoException, host: string, port: number): string {
  if (code === "EADDRINUSE") return `Port ${port} on ${host} is taken. Choose another: PORT=${port + 1} npm start`;
  if (code === "EACCES")
    return `Port ${port} may not be used by this account. Choose one above 1023: PORT=8787 npm start`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return `HOST=${host} is not an address of this machine.`;
  return `Cannot listen on ${host}, port ${port}: ${message}`;
}

/** Calls `onGone` once when nothing accepts connections there any more. Returns a function that stops the watch. */
export function watchAddress(url: string, onGone: () => void): () => void {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  let missed = 0;
  const timer = setInterval(() => {
    void accepts(host, Number(port)).then((ok) => {
      missed = ok ? 0 : missed + 1;
      if (missed === MISSED_MAX) onGone();
    });
  }, PROBE_EVERY_MS);
  return () => clearInterval(timer);
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PROBE_MS_MAX });
    const answer = (ok: boolean) => {
      socket.destroy();
      resolve(ok);
    };
    socket.once("connect", () => answer(true));
    socket.once("timeout", () => answer(false));
    socket.once("error", () => answer(false));
  });
}
