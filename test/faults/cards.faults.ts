/** One card of six fails in various ways: what callers notice, and how often the card is used. */
import type { FaultInput } from "../../sim/faults.ts";
import { eventually } from "../line/caller.ts";
import { openLine, type Service } from "../line/line.ts";
import { fault, type Seen as Row } from "./case.ts";
import { busyShare, closed, errors, good, type Seen, statuses } from "./crowd.ts";

const line = openLine();
const BAD = "gpu-02-0";
const USERS = 24;
const WINDOW_MS = 5_000;
/** Difference between two clocks of one machine. */
const CLOCKS_MS = 50;
/** The least share of the healthy cards' time that a busy machine of two cores still uses. */
const FLOOR = 0.15;

const healthyCards = () => line.park.cards.map(({ card }) => card).filter((card) => card !== BAD);
const onBad = () => line.park.counts().cards[BAD];
const startsOnBad = () => line.park.runs(BAD).map((run) => run.started_at);

async function sick(
  injected: FaultInput,
  config: Record<string, unknown> = {},
  times = { service_ms: 300, jitter: 0.3 },
): Promise<{ service: Service; key: string }> {
  line.park.setService(times);
  const service = await line.service({ queue: { max: 1_000 }, ...config });
  const key = await line.key();
  await line.park.setFault(BAD, injected);
  return { service, key };
}

/** No error reached a caller, no card exceeded its slots, and the other ten slots kept working. */
function unnoticed(row: Row, seen: Seen): void {
  row.exactly("over", seen.over);
  row.figure("client errors", errors(seen).length === 0 ? 0 : statuses(errors(seen)), errors(seen).length === 0);
  row.measured("time used of the other ten slots", busyShare(seen, healthyCards()), { least: 0.97, floor: FLOOR });
  row.note(`${good(seen).length} good answers`);
}

/** Seconds until the card takes work again after it has healed. */
async function backAfter(service: Service, key: string): Promise<number> {
  const healedAt = performance.now();
  const before = onBad()?.done ?? 0;
  await eventually(
    "it takes work again",
    async () => {
      await Promise.all((await line.calls(12, { service, key })).map((caller) => caller.answered));
      return (onBad()?.done ?? 0) > before;
    },
    30_000,
  );
  return (performance.now() - healedAt) / 1000;
}

const FAIL_TIMEOUT_S = 3;

fault(
  {
    number: "14",
    injection: `one card refuses connections, ${USERS} users, 5 s; then it heals; fail_timeout_s ${FAIL_TIMEOUT_S}`,
    expected: "0 client errors; >= .97 of the other ten slots; back within fail_timeout + 5 s of healing",
  },
  async (row) => {
    const { service, key } = await sick(
      { kind: "refuse" },
      { breaker: { max_fails: 3, fail_timeout_s: FAIL_TIMEOUT_S } },
    );
    unnoticed(row, await closed({ line, service, key, users: USERS, windowMs: WINDOW_MS }));
    await line.park.heal(BAD);
    line.park.setService({ service_ms: 100, jitter: 0 });
    row.measured("back after, s", await backAfter(service, key), { ceiling: FAIL_TIMEOUT_S + 5, digits: 1 });
  },
);

fault(
  {
    number: "15",
    injection: `one card answers 500 to all, at once, ${USERS} users, 7 s; fail_timeout_s 2`,
    expected: "0 x 500 to clients; <= 3 starts, then <= 1 probe per fail_timeout",
  },
  async (row) => {
    const { service, key } = await sick(
      { kind: "status", status: 500 },
      { breaker: { max_fails: 3, fail_timeout_s: 2 } },
    );
    line.park.reset();
    const seen = await closed({ line, service, key, users: USERS, warmUpMs: 0, windowMs: 7_000 });
    unnoticed(row, seen);
    const starts = startsOnBad();
    const first = starts[2] ?? starts.at(-1) ?? 0;
    const probes = starts.slice(3);
    row.figure("starts before it was out", starts.length - probes.length, starts.length >= 3);
    row.note(`${probes.length} probes after ${probes.map((at) => ((at - first) / 1000).toFixed(2)).join(", ")} s`);
    const early = probes.filter((at, i) => at - (probes[i - 1] ?? first) < 2_000 - CLOCKS_MS);
    row.exactly("probes too early", early.length);
  },
);

fault(
  {
    number: "16",
    injection: `one card resets in the midst of each run and works on, ${USERS} users, 5 s; then a streamed sound whose card resets in its midst`,
    expected: "0 client errors; duplicate runs <= 3 per ejection; the stream is cut, never ended like a success",
  },
  async (row) => {
    const reset: FaultInput = { kind: "reset", at: "after", after_ms: 100, goes_on: true };
    const { service, key } = await sick(reset, { drain: { max_s: 2 } });
    line.park.reset();
    const seen = await closed({ line, service, key, users: USERS, warmUpMs: 0, windowMs: WINDOW_MS });
    unnoticed(row, seen);
    const prompts = line.park.runs().map((run) => run.prompt);
    row.figure("duplicate runs", prompts.length - new Set(prompts).size, prompts.length - new Set(prompts).size <= 3);
    const tts = await line.service({}, { kind: "tts", cards: [BAD] });
    line.park.setService({ service_ms: 800, speech_s: 2, jitter: 0 });
    await line.park.setFault(BAD, { kind: "reset", at: "body" });
    const cut = await line.ask({ service: tts, key, body: { stream: true } });
    row.figure("the stream", `${cut.status}, ${cut.whole ? "whole" : "cut"}`, cut.status === 200 && !cut.whole);
  },
);

fault(
  {
    number: "17",
    injection: `one card accepts and hangs, ${USERS} users, 5 s; read_s 4`,
    expected:
      "the other ten slots at >= .97; both stuck leases are shown, freed at read_s; no third is admitted; 0 client errors",
  },
  async (row) => {
    const { service, key } = await sick({ kind: "hang" }, { timeouts: { read_s: 4 }, drain: { max_s: 2 } });
    const load = closed({ line, service, key, users: USERS, windowMs: WINDOW_MS });
    await eventually("both hang", () => onBad()?.running === 2);
    await eventually(
      "both are shown",
      async () => (await line.leases()).filter(({ card }) => card === BAD).length === 2,
    );
    const from = performance.now();
    await eventually("they are free", () => onBad()?.running === 0, 20_000);
    const seen = await load;
    unnoticed(row, seen);
    row.note("both stuck leases were shown");
    row.measured("freed after, s", (performance.now() - from) / 1000, { ceiling: 20, digits: 1 });
    row.exactly("most on it", onBad()?.highest ?? 0, onBad()?.highest === 1 ? 1 : 2);
    row.figure("starts on it", onBad()?.starts ?? 0, (onBad()?.starts ?? 0) <= 4);
  },
);

fault(
  {
    number: "18",
    injection: `one card five times slower, ${USERS} users, 8 s`,
    expected: ">= .85 of the healthy limit (arithmetic 10.4/12 = .867); the slow card is not ejected; 0 errors",
  },
  async (row) => {
    const { service, key } = await sick({ kind: "slow", factor: 5 });
    const seen = await closed({ line, service, key, users: USERS, warmUpMs: 2_000, windowMs: 8_000 });
    unnoticed(row, seen);
    const healthy = healthyCards().map((card) => seen.counts.cards[card]);
    const sum = (of: "busy_ms" | "starts") => healthy.reduce((total, counts) => total + (counts?.[of] ?? 0), 0);
    const share = ((good(seen).length / 8) * (sum("busy_ms") / sum("starts") / 1000)) / 12;
    row.measured("of the healthy limit", share, { least: 0.85, floor: 0.15 });
    const takes = (await line.status()).services.find(({ id }) => id === service.id)?.healthy_cards;
    row.figure("cards that take work", takes ?? 0, takes === 6);
    row.figure(
      "starts on the slow one",
      seen.counts.cards[BAD]?.starts ?? 0,
      (seen.counts.cards[BAD]?.starts ?? 0) > 2,
    );
  },
);

const seeded = (user: number, turn: number) => ({ prompt: "the same", seed: user * 1_000 + turn });

/** Whether the picture in the answer is complete. */
function intact(text: string): boolean {
  const { images }: { images?: string[] } = JSON.parse(text);
  const bytes = Buffer.from(images?.[0] ?? "", "base64");
  return bytes.subarray(1, 4).toString() === "PNG" && bytes.subarray(-8, -4).toString() === "IEND";
}

fault(
  {
    number: "19",
    injection: `one card truncates its answers (shorter than their length; then inside the JSON), ${USERS} users with seeds, 5 s; then a streamed sound`,
    expected: "0 client errors and whole answers only; never stored; ejected after 3; the stream is cut and not stored",
    limitMs: 90_000,
  },
  async (row) => {
    let broken = 0;
    let hitsBroken = 0;
    for (const how of ["length", "content"] as const) {
      const { service, key } = await sick({ kind: "truncate", how, fraction: 0.6 });
      line.park.reset();
      const seen = await closed({
        line,
        service,
        key,
        users: USERS,
        warmUpMs: 0,
        windowMs: WINDOW_MS / 2,
        body: seeded,
        texts: true,
      });
      unnoticed(row, seen);
      broken += good(seen).filter(({ text }) => !intact(text)).length;
      const starts = startsOnBad().length;
      row.figure("starts on it", starts, starts >= 1 && starts <= 4);
      for (const [i, { user }] of good(seen).slice(0, 20).entries()) {
        const again = await line.ask({ service, key, prompt: "the same", body: { seed: user * 1_000 } });
        if (i < 20 && (again.status !== 200 || !intact(again.text))) hitsBroken++;
      }
      await line.park.heal(BAD);
    }
    row.exactly("broken answers", broken);
    row.exactly("broken answers of the store", hitsBroken);
    const key = await line.key();
    const tts = await line.service({}, { kind: "tts", cards: [BAD] });
    line.park.setService({ service_ms: 300, speech_s: 2, jitter: 0 });
    await line.park.setFault(BAD, { kind: "truncate", how: "chunked" });
    const cut = await line.ask({ service: tts, key, prompt: "said once", body: { stream: true } });
    row.figure("the stream", `${cut.status}, ${cut.whole ? "whole" : "cut"}`, cut.status === 200 && !cut.whole);
    await line.park.heal(BAD);
    await line.conserved();
    const again = await line.ask({ service: tts, key, prompt: "said once", body: { stream: true } });
    const said = again.header("cache-status") ?? "";
    row.figure("the same again", `${said}, ${again.whole ? "whole" : "cut"}`, !said.includes("hit") && again.whole);
  },
);
