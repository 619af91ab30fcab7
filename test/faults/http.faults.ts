/** HTTP that is malformed, slow or hostile, over raw sockets: from callers, and from an origin. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll } from "vitest";
import { answerEcho, listOrigin, Origin, valuesOf } from "../contract/origin.ts";
import { doorway, picture } from "../contract/doorway.ts";
import { eventually, sleep } from "../line/caller.ts";
import { descendantsOf } from "../support/processes.ts";
import { fault } from "./case.ts";
import { Connection } from "./connection.ts";
import { HOSTILE } from "./hostile.ts";
import { MALFORMED, PIPELINED } from "./malformed.ts";

/** Longest silence of a caller that sends a body. */
const SILENCE_MS = 30_000;
const AT_ONCE = 8;
const door = doorway();
let origin: Origin;

/** Two bodies that stop: their final statuses, and how many slots the large one held meanwhile. */
interface Stopped {
  body: number;
  large: number;
  slots: number;
  afterS: number;
}
let stopped: Promise<Stopped>;

const url = () => door.portico.url;
const own = () => `Host: ${new URL(url()).host}\r\nAuthorization: Bearer ${door.ownKey}\r\n`;
const workerds = () =>
  descendantsOf(process.pid).filter((pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd");
const leases = () => door.portico.admin<{ data: { service: string }[] }>("GET", "/leases?limit=1000");

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(
    door,
    origin,
    "any",
    { kind: "http", route: "/any/", breaker: { max_fails: 1_000 }, drain: { max_s: 1 } },
    { slots: 100 },
  );
  await listOrigin(door, origin, "upload", { kind: "http", route: "/upload/" });
  // This takes 30 s, so it starts now and is checked at the end.
  stopped = stop();
});
afterAll(() => origin.close());

async function stop(): Promise<Stopped> {
  const [body, large] = [await Connection.open(url()), await Connection.open(url())];
  const json = "Content-Type: application/json\r\n";
  body.send(`POST /sdapi/v1/txt2img HTTP/1.1\r\n${own()}${json}Content-Length: 500\r\n\r\n{"prompt":"half`);
  large.send(`POST /upload/x HTTP/1.1\r\n${own()}Content-Length: 20000000\r\n\r\n`);
  large.send(Buffer.alloc(9_000_000, "x"));
  const from = performance.now();
  await sleep(3_000);
  const slots = await uploads();
  const answered = () => body.statuses.length === 1 && large.statuses.length === 1;
  await eventually("both that stopped are answered", answered, 2 * SILENCE_MS);
  const afterS = (performance.now() - from) / 1000;
  const became = { body: body.statuses[0] ?? 0, large: large.statuses[0] ?? 0, slots, afterS };
  body.destroy();
  large.destroy();
  return became;
}

const uploads = async () => (await leases()).data.filter(({ service }) => service === "upload").length;
const others = async () => (await leases()).data.filter(({ service }) => service !== "upload").length;

fault(
  {
    number: "33",
    injection: `${MALFORMED.length} malformed or ambiguous requests over raw sockets (CL.TE, TE.CL, bare LF, folds, chunk sizes, NUL, lines, hosts)`,
    expected:
      "0 requests at the origin that the front door did not account for; none smuggled; 4xx, close or one plain answer; 0 crashes; the next request unharmed",
    limitMs: 90_000,
  },
  async (row) => {
    origin.answering = answerEcho;
    origin.seen.length = 0;
    const before = workerds();
    const figures = {
      unaccounted: [] as string[],
      smuggled: [] as string[],
      fault: [] as string[],
      harmed: [] as string[],
    };
    const told = new Map<string, number>();
    const one = async ([what, build]: (typeof MALFORMED)[number], i: number): Promise<void> => {
      const marks = { own: own(), first: `/any/first-${i}-`, inside: `/any/inside-${i}-` };
      const connection = await Connection.open(url());
      connection.send(build(marks));
      await connection.settled(1_000);
      const status = connection.statuses.join("+") || (connection.closed ? "closed" : "silent");
      told.set(status, (told.get(status) ?? 0) + 1);
      // Answers without our id come from the runtime itself; the platform's edge takes its place in production.
      const ours = connection.heads
        .filter((head) => /^x-request-id:/im.test(head))
        .map((head) => Number(head.slice(9, 12)));
      if (ours.some((code) => code >= 499)) figures.fault.push(`${what} (${status})`);
      // The next request goes on the same connection, or on a new one if this one is closed or waits for a body.
      const next = await Connection.open(url());
      const waits = connection.statuses.length === 0 || what.includes("HEAD");
      const on = connection.closed || waits ? next : connection;
      const answered = on.statuses.length;
      on.send(`GET /any/next-${i}- HTTP/1.1\r\n${own()}\r\n`);
      await on.settled();
      const isOwn =
        on.text.includes(`/any/next-${i}-`) && on.statuses.length === answered + 1 && on.statuses.at(-1) === 200;
      // A connection that is closed under the request does no harm: the client retries.
      if (!isOwn && !(on === connection && on.closed)) figures.harmed.push(`${what} (${on.statuses.join("+")})`);
      const seen = origin.seen.filter(({ target }) => target.includes(`-${i}-`));
      const ids = new Set([...connection.ids, ...next.ids]);
      for (const each of seen) {
        const [id = ""] = valuesOf(each, "x-request-id");
        if (!ids.has(id) && (await door.ask(`/v1/requests/${id}`)).status !== 200) figures.unaccounted.push(what);
        if (each.target.includes("inside") && !PIPELINED.has(what)) figures.smuggled.push(what);
      }
      connection.destroy();
      next.destroy();
    };
    for (let at = 0; at < MALFORMED.length; at += AT_ONCE)
      await Promise.all(MALFORMED.slice(at, at + AT_ONCE).map((each, i) => one(each, at + i)));
    for (const [name, of] of Object.entries(figures))
      row.figure(name, of.length === 0 ? 0 : `${of.length}: ${of.join(", ")}`, of.length === 0);
    row.note([...told].map(([status, count]) => `${count} x ${status}`).join(", "));
    row.figure("crashes", workerds().join() === before.join() ? 0 : 1, workerds().join() === before.join());
  },
);

fault(
  {
    number: "39",
    injection: `${Object.keys(HOSTILE).length} hostile answers of an origin (CR, LF, NUL, 70 KB, Connection, Transfer-Encoding, trailers, interim answers, a gzip bomb)`,
    expected: "stripped or 502; never split; the next request on the connection unharmed; 0 crashes",
    limitMs: 90_000,
  },
  async (row) => {
    const before = workerds();
    const figures = { split: [] as string[], other: [] as string[], harmed: [] as string[] };
    const told = new Map<string, number>();
    for (const [what, hostile] of Object.entries(HOSTILE)) {
      origin.answering = hostile;
      const connection = await Connection.open(url());
      connection.send(`POST /any/x HTTP/1.1\r\n${own()}Content-Length: 0\r\n\r\n`);
      await connection.settled(10_000);
      const statuses = connection.statuses.filter((status) => status >= 200);
      const status = statuses.join("+") || "cut";
      told.set(status, (told.get(status) ?? 0) + 1);
      if (
        statuses.length > 1 ||
        /^x-split|^set-cookie|<http:\/\/X-Split|split$|url=http/im.test(connection.heads.join("\n"))
      )
        figures.split.push(what);
      if (!/^(200|204|304|502|cut)$/.test(status)) figures.other.push(`${what} (${status})`);
      const at = connection.statuses.length;
      origin.answering = answerEcho;
      const on = connection.closed ? await Connection.open(url()) : connection;
      on.send(`GET /any/next HTTP/1.1\r\n${own()}\r\n`);
      await on.settled();
      if (on.statuses.at(-1) !== 200 || on.statuses.length !== (on === connection ? at + 1 : 1)) {
        if (!(on === connection && on.closed)) figures.harmed.push(`${what} (${on.statuses.join("+")})`);
      }
      on.destroy();
      connection.destroy();
    }
    for (const [name, of] of Object.entries(figures))
      row.figure(name, of.length === 0 ? 0 : `${of.length}: ${of.join(", ")}`, of.length === 0);
    row.note([...told].map(([status, count]) => `${count} x ${status}`).join(", "));
    row.figure("crashes", workerds().join() === before.join() ? 0 : 1, workerds().join() === before.join());
  },
);

fault(
  {
    number: "34",
    injection:
      "30 callers whose heads and 30 whose bodies come byte by byte for 4 s; a body that stops, a large one that stops on its way through",
    expected:
      "no slot held before the full request is in; what stops is refused and its slot free after 30 s of silence; others are served meanwhile",
    limitMs: 90_000,
  },
  async (row) => {
    const body = JSON.stringify(picture());
    const head = `POST /sdapi/v1/txt2img HTTP/1.1\r\n${own()}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    const all = await Promise.all(Array.from({ length: 60 }, () => Connection.open(url())));
    const texts = all.map((_, i) => (i % 2 === 0 ? head + body : body));
    for (const [i, connection] of all.entries()) if (i % 2 === 1) connection.send(head);
    const starts = door.starts();
    let most = 0;
    for (let second = 0; second < 4; second++) {
      for (const [i, connection] of all.entries()) connection.send(texts[i]?.slice(second * 5, second * 5 + 5) ?? "");
      await sleep(1_000);
      most = Math.max(most, await others());
    }
    row.exactly("slots held meanwhile", most);
    row.exactly("starts", door.starts() - starts);
    const meanwhile = await door.paint();
    row.figure("another's request", meanwhile.status, meanwhile.status === 200);
    for (const [i, connection] of all.entries()) connection.send(texts[i]?.slice(20) ?? "");
    await eventually("all are answered", () => all.every((connection) => connection.statuses.length === 1));
    const good = all.filter((connection) => connection.statuses[0] === 200).length;
    row.exactly("answered when they were in", good, 60);
    for (const connection of all) connection.destroy();
    const { body: half, large, slots, afterS } = await stopped;
    row.measured("both that stopped were answered after, s", afterS, {
      floor: 25,
      ceiling: (2 * SILENCE_MS) / 1000,
      digits: 0,
    });
    row.figure("the body", half, half === 400);
    row.figure("the large one on its way through", large, large >= 400 && large < 500);
    row.note(`it held ${slots} slot meanwhile`);
    await eventually("its slot is free", async () => (await uploads()) === 0);
  },
);
