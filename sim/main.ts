/**
 * Command line of the simulator:
 *
 *     node sim/main.ts [--speed 1] [--servers 3] [--gpus 2] [--slots 2] [--service-ms N] [--jitter X]
 *
 * Prints one line of JSON when every card listens. Ends on SIGTERM or SIGINT, or when its standard input closes, so
 * that it never outlives its parent.
 */
import { parseArgs } from "node:util";
import { startPark } from "./park.ts";

const { values } = parseArgs({
  options: {
    speed: { type: "string" },
    servers: { type: "string" },
    gpus: { type: "string" },
    slots: { type: "string" },
    "service-ms": { type: "string" },
    jitter: { type: "string" },
  },
});

function number(name: keyof typeof values): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new Error(`--${name} wants a number, not "${text}"`);
  return value;
}

const [servers, gpus, slots] = [number("servers"), number("gpus"), number("slots")];
const [speed, jitter, serviceMs] = [number("speed"), number("jitter"), number("service-ms")];
const park = await startPark({
  ...(servers === undefined ? {} : { servers }),
  ...(gpus === undefined ? {} : { gpus }),
  ...(slots === undefined ? {} : { slots }),
  service: { speed, jitter, service_ms: serviceMs },
});

let ending = false;
function end(): void {
  if (ending) return;
  ending = true;
  void park.close().then(() => process.exit(0));
}
process.once("SIGTERM", end);
process.once("SIGINT", end);
process.stdin.once("end", end);
process.stdin.once("close", end);
process.stdin.resume();

const cards = park.cards.map(({ card, server, gpu, origin }) => ({ card, server, gpu, origin }));
process.stdout.write(`${JSON.stringify({ control: park.control, cards })}\n`);
