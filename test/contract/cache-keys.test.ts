/**
 * Two requests that could make the origin answer differently never share an answer. The origin records what every run
 * received, and a hit must come from a run that received the same.
 */
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway } from "./doorway.ts";
import { answerEcho, listOrigin, Origin, type Seen, valuesOf } from "./origin.ts";

const RUNS = 80;
const RUNS_MS_MAX = 60_000;
const DEFAULTS = { steps: 20 };
/** As deployed. Without it, every Host would have a cache of its own. */
const door = doorway({ cards: [], vars: { PUBLIC_URL: "http://127.0.0.1:8787" } });
let origin: Origin;
let keys: string[];
let run = 0;

beforeAll(async () => {
  origin = await Origin.open();
  origin.answering = answerEcho;
  const service = { kind: "http", cache: { enabled: true }, defaults: DEFAULTS };
  await listOrigin(door, origin, "own", { ...service, route: "/own/" });
  await listOrigin(door, origin, "shared", { ...service, route: "/shared/", cache: { enabled: true, shared: true } });
  keys = [await door.key(), await door.key()];
});
afterAll(() => origin.close());

interface Variant {
  tenant: number;
  path: string;
  query: string;
  type: string;
  body: string;
  headers: Record<string, string>;
}

const PATHS = [
  "x",
  "X",
  "%78",
  "x/",
  "x;a=b",
  "x%20",
  "x%3Fa=1",
  "%2fx",
  "/x",
  "./x",
  "y/../x",
  "x%00",
  "x%c3%a9",
  "x%C3%A9",
];
const QUERIES = [
  "",
  "?",
  "?a=1",
  "?a=1&a=2",
  "?a=2&a=1",
  "?A=1",
  "?a=1&",
  "?a=1%26a=2",
  "?a=%31",
  "?a=1;a=2",
  "?a=1#b",
];
const TYPES = [
  "application/json",
  "application/json; charset=utf-8",
  "application/json; charset=utf-16",
  "Application/JSON",
  "text/plain",
];
const BODIES = [
  { text: "the sea" },
  { text: "the  sea" },
  { text: "The sea" },
  { text: "the sea", steps: 20 },
  { text: "the sea", steps: 21 },
  { text: "the sea", steps: "20" },
  { text: "the sea", steps: null },
  { text: ["the sea"] },
];
const HEADERS: Record<string, string[]> = {
  host: ["poison.example", "127.0.0.1.", "LOCALHOST"],
  "x-forwarded-host": ["poison.example"],
  "x-forwarded-for": ["10.6.6.6"],
  "x-forwarded-proto": ["https"],
  forwarded: ["host=poison.example"],
  "x-original-url": ["/poison"],
  "x-http-method-override": ["PUT"],
  accept: ["text/html"],
  "accept-language": ["zh", "de"],
  "accept-encoding": ["gzip"],
  origin: ["http://poison.example"],
  referer: ["http://poison.example/"],
  cookie: ["poison=1"],
  "user-agent": ["poison"],
  "content-language": ["zh"],
  "x-lang": ["zh"],
  "x-http-body": ["poison"],
};

/** The same JSON or nearly: members in another order, other white space, a name given twice. */
const written = fc.tuple(
  fc.constantFrom(...BODIES),
  fc.constantFrom("plain", "turned", "spaced", "twice", "twice last"),
);

function bodyOf(json: object, how: string, turn: number): string {
  const members = Object.entries({ ...json, turn });
  const said = JSON.stringify(
    Object.fromEntries(how === "turned" ? members.toReversed() : members),
    null,
    how === "spaced" ? 2 : 0,
  );
  if (how === "twice") return said.replace("{", '{"text":"poison",');
  return how === "twice last" ? said.replace(/\}$/, ',"text":"poison"}') : said;
}

const header = fc
  .constantFrom(...Object.keys(HEADERS))
  .chain((name) => fc.constantFrom(...(HEADERS[name] ?? [])).map((value): [string, string] => [name, value]));
const variant = fc.record({
  tenant: fc.nat({ max: 1 }),
  path: fc.oneof({ weight: 3, arbitrary: fc.constant("x") }, fc.constantFrom(...PATHS)),
  query: fc.oneof({ weight: 2, arbitrary: fc.constant("?a=1") }, fc.constantFrom(...QUERIES)),
  type: fc.oneof({ weight: 3, arbitrary: fc.constant("application/json") }, fc.constantFrom(...TYPES)),
  written,
  headers: fc.array(header, { maxLength: 2 }).map((some) => Object.fromEntries(some)),
});

/** Most pairs differ in few parts, or no pair would ever hit. */
const PARTS = ["tenant", "path", "query", "type", "written", "headers"] as const;
const differing = fc.subarray([...PARTS], { minLength: 1, maxLength: 2 });

const send = (
  service: string,
  { tenant, path, query, type, body, headers }: Variant,
  more: Record<string, string> = {},
) =>
  door.ask(`/${service}/${path}${query}`, {
    body,
    key: keys[tenant] ?? null,
    headers: { ...headers, ...more, "content-type": type },
  });

const isHit = (answer: Answer) => (answer.header("cache-status") ?? "").startsWith("portico; hit");

/** Everything in a request that the origin could answer differently for, without ids, which are always new. */
function told(seen: Seen) {
  const headers = seen.headers.filter(([name]) => !/^(x-request-id|x-portico-lease|content-length)$/i.test(name));
  const types = valuesOf(seen, "content-type").map((type) => type.toLowerCase().replace(/;\s*charset=utf-8/, ""));
  const body = seen.body.toString();
  const names = body.match(/"(text|steps|turn)":/g)?.toSorted();
  return {
    target: seen.target,
    headers: headers.map(([name, value]) => (/^content-type$/i.test(name) ? types : [name, value])),
    // Defaults fill in missing fields, and a duplicate name counts as a difference.
    body: [{ ...DEFAULTS, ...JSON.parse(body) }, names?.filter((name, i) => names[i + 1] === name)],
  };
}

test.each(["own", "shared"])(
  "%s: a hit comes from a run that received the same request",
  async (service) => {
    let hits = 0;
    const property = fc.asyncProperty(variant, variant, differing, async (one, other, parts) => {
      const turn = (run += 1);
      const altered = Object.fromEntries(parts.map((part) => [part, other[part]]));
      const [first, second] = [one, { ...one, ...altered }].map((each): Variant => ({
        ...each,
        body: bodyOf(...each.written, turn),
      })) as [Variant, Variant];
      origin.seen.length = 0;
      await send(service, first);
      const [made] = origin.seen.splice(0);
      const answer = await send(service, second);
      if (!isHit(answer)) return;
      hits++;
      expect(origin.seen).toEqual([]);
      expect(service === "own" && first.tenant !== second.tenant, "another tenant's answer").toBe(false);
      // The same request again, forced to run.
      await send(service, second, { "cache-control": "no-cache" });
      expect(made && told(made)).toEqual(told(origin.taken()));
    });
    await fc.assert(property, { numRuns: RUNS });
    expect(hits, "pairs that met").toBeGreaterThan(0);
  },
  RUNS_MS_MAX,
);
