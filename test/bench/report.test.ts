import { expect, test } from "vitest";
import { brokenOf } from "../../bench/auth-report.ts";
import { recoveryOf } from "../../bench/recovery.ts";
import { reportOf } from "../../bench/report.ts";
import type { Results } from "../../bench/results.ts";
import { figuresOf } from "../../bench/figures.ts";
import { cardsOf, FROM, runOf, sampleOf, seenOf } from "./seen.ts";

const machine = { cpu: "Some Processor", cores: 2, memoryGb: 24, system: "Linux 6", versions: { nginx: "1.22.1" } };
const seen = seenOf([sampleOf(), sampleOf({ status: 503, at: FROM + 6_500 })]);
const figures = figuresOf(seen, cardsOf([runOf(FROM, FROM + 300)], { over: 3, highestOnOne: 4 }), 50);
const shared = { title: "50 users", label: "50 users", kind: "crowd", users: 50, leaveAfterMs: null } as const;
const results: Results = {
  name: "side-by-side",
  at: "2026-11-21T06:00:00.000Z",
  machine,
  lengths: { warmUpMs: 1, windowMs: 10_000, shortWindowMs: 1, beforeKillMs: 1 },
  rounds: 0,
  contenders: [{ name: "nginx", title: "nginx" }],
  leftOut: [{ title: "HAProxy", why: "not installed" }],
  cases: [
    { ...shared, name: "closed-50", group: "closed" },
    { ...shared, name: "restart-50", group: "restart" },
  ],
  rows: [
    { contender: "nginx", case: "closed-50", ...figures, recovery: null },
    {
      contender: "nginx",
      case: "restart-50",
      ...figures,
      recovery: recoveryOf(seen, { killedAt: FROM + 6_000, upAt: FROM + 6_100 }),
    },
  ],
  oneCaller: [],
  oldLoad: [
    {
      what: "one card, bare",
      users: 50,
      thinkMs: 5_000,
      perSecond: 7.7,
      meanMs: 1_440,
      errorRate: 0,
      highestOnOne: 17,
      share: 5.5,
    },
  ],
};

test("without a complete run the page says how to make one", () => {
  const page = reportOf({
    sideBySide: null,
    scale: null,
    auth: null,
    hits: null,
    jobs: null,
    files: ["part.json", "part-share.svg"],
  });
  expect(page).toContain("`npm run bench` on a machine that does nothing else");
  expect(page).not.toContain(".svg");
});

test("a kept run is reported with date, machine, versions, plots and every table", () => {
  const files = ["side-by-side.json", "side-by-side-share.svg", "side-by-side-hang-ups.svg", "quick-share.svg"];
  const page = reportOf({ sideBySide: results, scale: null, auth: null, hits: null, jobs: null, files });
  expect(page).toContain("2026-11-21; 2 cores of Some Processor, 24 GB, Linux 6; nginx 1.22.1.");
  expect(page).toContain("![hang-ups](side-by-side-hang-ups.svg)\n![share](side-by-side-share.svg)");
  expect(page).not.toContain("quick");
  // Over-admissions, the most runs on one card, errors, the rate before, the start-up time; it never recovered.
  expect(page).toMatch(/\nnginx +3 +4 +1 +0\.2 +0\.1 +- +- +0\n/);
  expect(page).toMatch(/\nthen: one WebUI +50-200 +- +1\.2 +- +8\.4 +18\.0 % +-\n/);
  expect(page).toMatch(/\none card, bare +50 +5 +7\.7 +5\.50 +1\.4 +0\.0 % +17\n/);
  expect(page).toContain("HAProxy: not installed");
});

test("the cost of keys and limits is relative to the bare Worker, and a warm request that reads D1 is named", () => {
  const times = { p95Us: 2_000, stages: {} };
  const bare = { ...times, title: "bare", floor: "bare", p50Us: 400, uses: null, isWarm: true };
  const hit = { ...times, title: "a hit", floor: "bare", p50Us: 1_000, stages: { auth: 0.5 }, isWarm: true };
  const rows = [
    bare,
    { ...hit, uses: { d1_reads: 0, objects: 0.04 } },
    { ...hit, isWarm: false, uses: { d1_reads: 1 } },
  ];
  const auth = { name: "auth", at: results.at, machine, rounds: 5, rows };
  const page = reportOf({ sideBySide: null, scale: null, auth, hits: null, jobs: null, files: ["auth.json"] });
  expect(page).toMatch(/\na hit +1000 +2000 +x 2\.50 +0\.50 +- +0\.00 +- +- +- +0\.04 +-\n/);
  expect(brokenOf(rows)).toEqual([]);
  const reading = { ...hit, uses: { d1_reads: 0.04 } };
  expect(brokenOf([...rows, reading])).toEqual([reading]);
});

test("the cost of a million jobs includes the objects' writes, and counts a batch's request once", () => {
  const ran = { jobs: 3, runs: 3, ran: 3, over: 0, takenPerSecond: 9, slotsBusy: 0.5, gapP50: 1, gapP99: 2 };
  const uses = { objects: 10, object_rows: 20, workflows: 1, r2_writes: 2 };
  const jobs = {
    name: "jobs",
    at: results.at,
    machine,
    runMs: 2_000,
    figures: { ...ran, shares: [1, 1, 1] },
    costs: [
      { title: "by itself", uses, rows: 9 },
      { title: "of a batch", uses: { ...uses, request: 0.1 }, rows: 9 },
    ],
  };
  const page = reportOf({ sideBySide: null, scale: null, auth: null, hits: null, jobs, files: ["jobs.json"] });
  expect(page).toMatch(/\n3 +3 +3 +0 +9 +0\.500 +1 +2 +1 1 1\n/);
  // 0.30 + 0.30 + 1.50 + 20 + 9 + 9, in dollars.
  expect(page).toMatch(/\nby itself .* 9\.00 +40\.10\n/);
  expect(page).toMatch(/\nof a batch .* 9\.00 +39\.83\n/);
});
