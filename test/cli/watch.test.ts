import { existsSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../line/caller.ts";
import { COMMAND, portico, run } from "./command.ts";
import { refusal, type Said, type Scripted, scripted } from "./scripted.ts";

const SCRIPT = "/usr/bin/script";
const STATUS = {
  status: "degraded",
  cluster: "portico",
  timestamp: "2027-01-31T10:00:00.123Z",
  total_capacity: 4,
  servers: 1,
  in_use: 3,
  queued: 2,
  services: [{ id: "portrait", capacity: 4, in_use: 3, queued: 2, cards: 2, healthy_cards: 1 }],
};
const LINE = "2027-01-31T10:00:00.123Z degraded 3/4 in use, 2 queued: portrait 3/4+2\n";
const CARDS = { data: [{ id: "c1", server: null, slots: 2, state: "active", live: null }], next_cursor: null };

let api: Scripted;
afterEach(() => api.stop());

async function start(status: (before: number) => Said): Promise<void> {
  api = await scripted(({ call }, before) => (call.includes("/cards") ? { body: CARDS } : status(before)));
}

test("a watch prints one line per update and exits with 0 on Ctrl-C", async () => {
  await start(() => ({ body: STATUS }));
  const watch = portico(["status", "--watch"], { url: api.url });
  await eventually("two lines", () => watch.said() === LINE + LINE);
  watch.child.kill("SIGINT");
  expect(await watch).toEqual({ code: 0, out: LINE + LINE, err: "" });
});

test("a watch with --json prints one JSON text per line", async () => {
  await start(() => ({ body: STATUS }));
  const watch = portico(["status", "--watch", "--json"], { url: api.url, token: "t" });
  await eventually("two lines", () => watch.said().split("\n").length === 3);
  watch.child.kill("SIGTERM");
  const { code, out } = await watch;
  expect([code, out]).toEqual([0, `${JSON.stringify(STATUS)}\n`.repeat(2)]);
});

test("a watch survives a lost connection, and ends on a refusal or if the first call fails", async () => {
  await start((before) =>
    before === 1 ? null : before === 3 ? refusal(401, { message: "No.", reason: "unknown" }) : { body: STATUS },
  );
  const { code, out, err } = await portico(["status", "--watch"], { url: api.url });
  expect([code, out]).toEqual([1, LINE + LINE]);
  expect(err).toMatch(/^The connection to \S+ broke .*\nportico: No \(unknown, /);
  await api.stop();
  await start(() => null);
  expect(await portico(["status", "--watch"], { url: api.url })).toMatchObject({ code: 1, out: "" });
});

test.runIf(existsSync(SCRIPT))(
  "on a terminal a watch redraws one screen and restores the terminal at the end",
  async () => {
    await start(() => ({ body: STATUS }));
    const command = `stty rows 6 cols 80; exec "${process.execPath}" "${COMMAND}" status --watch`;
    const watch = run(SCRIPT, ["-qec", command, "/dev/null"], {
      url: api.url,
      token: "t",
      keep: true,
    });
    await eventually("two pictures", () => watch.said().split("\u{1b}[H").length === 3);
    watch.child.stdin?.write("\u{3}");
    const { code, out } = await watch;
    expect(code).toBe(0);
    expect(out.startsWith("\u{1b}[?1049h")).toBe(true);
    expect(out).toMatch(/portrait +.*█+░+.* +3\/4 in use +2 queued +1\/2 cards take work/);
    expect(out).toContain("... 2 more lines");
    expect(out.trimEnd().endsWith("\u{1b}[?25h\u{1b}[?1049l")).toBe(true);
  },
);
