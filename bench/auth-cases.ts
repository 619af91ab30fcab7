/**
 * The requests whose cost is measured: what the front door, a key and the limits add to a Worker without any of them.
 */
import type { CardPlace } from "./cards.ts";
import { type Target } from "./users.ts";
import { plain, post } from "./wire.ts";

const RUN = "/sdapi/v1/txt2img";
const READ = "/sdapi/v1/sd-models";
/** Only its checksum is wrong. More than a hundred of these in ten seconds get 429. */
const GUESS = `ptk_live_${"a".repeat(12)}_${"b".repeat(37)}`;

export interface AuthCase {
  title: string;
  door: "bare" | "portico";
  /** Title of the bare Worker's case that it is compared with. */
  floor: string;
  request: (turn: number) => Buffer;
  statuses: readonly number[];
  /** After the first request, nothing in it is new to the isolate. */
  isWarm: boolean;
}

/**
 * `keys`: the first is used throughout, each of the others once; with more turns than other keys they are used again.
 */
export function casesOf(keys: readonly string[], [card]: readonly CardPlace[]): AuthCase[] {
  const [known = "", ...others] = keys;
  const key = { authorization: `Bearer ${known}` };
  const passed = { "x-origin": `http://127.0.0.1:${card?.port}` };
  const floor = "bare Worker, answers itself";
  const far = "bare Worker, passes on";
  const own = { door: "portico", floor, isWarm: true } as const;
  const asking = { origin: "https://app.example.com", "access-control-request-method": "POST" };
  return [
    { title: floor, door: "bare", floor, isWarm: true, request: () => plain("GET", "/", {}), statuses: [200] },
    { ...own, title: "health", request: () => plain("GET", "/health", {}), statuses: [200] },
    { ...own, title: "preflight", request: () => plain("OPTIONS", RUN, asking), statuses: [204] },
    { ...own, title: "no key", request: () => plain("GET", READ, {}), statuses: [401] },
    { ...own, title: "a guess", request: () => plain("GET", READ, { "x-api-key": GUESS }), statuses: [401, 429] },
    { ...own, title: "a hit", request: () => paint("a hit", key), statuses: [200] },
    {
      ...own,
      title: "a hit, the key not seen before",
      isWarm: false,
      request: (turn) => paint("a hit", { authorization: `Bearer ${others[turn % others.length]}` }),
      statuses: [200],
    },
    {
      title: far,
      door: "bare",
      floor: far,
      isWarm: true,
      request: (turn) => paint(`passed on, turn ${turn}`, passed),
      statuses: [200],
    },
    { ...own, title: "a miss", floor: far, request: (turn) => paint(`a miss, turn ${turn}`, key), statuses: [200] },
  ];
}

/** The smallest picture, with a seed so that it can be a hit. */
function paint(prompt: string, headers: Target["headers"]): Buffer {
  return post(RUN, headers, JSON.stringify({ prompt, seed: 1, width: 64, height: 64, steps: 1 }));
}
