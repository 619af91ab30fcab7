/** Inputs of jobs beyond 8 MiB: through R2 to the origin as they were sent, checked like small ones. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway, errorOf, picture, refusalOf } from "../contract/doorway.ts";
import { answerImage, listOrigin, Origin } from "../contract/origin.ts";
import { openUploads } from "../contract/uploads.ts";
import { eventually } from "../line/caller.ts";
import { bytesOf, RawCall } from "../support/raw.ts";
import { type JobShown, over } from "./shown.ts";

const LARGE = 12 * 1024 * 1024;

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "large", { kind: "image", route: "/large/", max_body_mb: 20 });
  await listOrigin(door, origin, "plain", { kind: "http", route: "/plain/", max_body_mb: 20 });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

async function stored(): Promise<string[]> {
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  const found = await Promise.all(["inputs/", "jobs/"].map((prefix) => bucket.list({ prefix })));
  return found.flatMap(({ objects }) => objects.map(({ key }) => key));
}

/** The body as text, so that the input's bytes are known. */
const bodyOf = (service: string, input: string, more = "") =>
  `{"service":"${service}",${service === "plain" ? '"path":"make",' : ""}"input": ${input}${more}}`;
const submit = (body: string, headers: Record<string, string> = {}) =>
  door.ask("/v1/jobs", { method: "POST", body, headers: { "content-type": "application/json", ...headers } });

test.each([
  ["image", "large", JSON.stringify(picture({ init_images: ["A".repeat(LARGE)] }))],
  ["http", "plain", `{"exact": 9007199254740993, "filler":"${"x".repeat(LARGE)}"}`],
])(
  "an input of 12 MiB for an %s service reaches the origin byte for byte, and nothing is left of it",
  async (_, service, input) => {
    const answer = await submit(bodyOf(service, input, ',"priority":"high"'));
    expect(answer.status, answer.text.slice(0, 300)).toBe(202);
    const { id } = JSON.parse(answer.text) as JobShown;
    const job = await over(door, id);
    expect(job).toMatchObject({ status: "succeeded", priority: "high" });
    // No diff of 12 MiB.
    expect(origin.taken().body.equals(Buffer.from(input))).toBe(true);
    await eventually("nothing is left", async () => (await stored()).length === 0);
  },
);

test("a large input is checked like a small one, before the job is accepted", async () => {
  const filler = "A".repeat(LARGE);
  const wide = await submit(bodyOf("large", JSON.stringify(picture({ init_images: [filler], width: 9_000 }))));
  expect([refusalOf(wide), errorOf(wide).param]).toEqual([
    "400 invalid_request invalid_request_error invalid_field",
    "input.width",
  ]);
  const unknown = await submit(bodyOf("large", `"${filler}"`, ',"nonsense":1'));
  expect([unknown.status, errorOf(unknown).param]).toEqual([400, "nonsense"]);
  const broken = await submit(bodyOf("large", `{"prompt":"${filler}" "width":1}`));
  expect(refusalOf(broken)).toContain("400 invalid_request");
  const named = await submit(bodyOf("large", `"${filler}"`), { "idempotency-key": "too-large-to-compare" });
  expect([named.status, errorOf(named).param]).toEqual([400, "Idempotency-Key"]);
  const none = await submit(`{"service":"large","other":"${filler}"}`);
  expect([none.status, errorOf(none).param]).toEqual([400, "body"]);
  const huge = await submit(bodyOf("large", `"${"A".repeat(21 * 1e6)}"`));
  expect(refusalOf(huge)).toBe("413 body_too_large invalid_request_error body_too_large");
  expect(origin.seen).toHaveLength(0);
  await eventually("nothing is left", async () => (await stored()).length === 0);
});

test("a caller who hangs up while sending a large input leaves nothing", async () => {
  const call = await RawCall.open(door.portico.url);
  const headers = { authorization: `Bearer ${door.ownKey}`, "content-type": "application/json" };
  const body = bodyOf("plain", `"${"x".repeat(LARGE)}"`);
  const bytes = bytesOf(call.host, { method: "POST", target: "/v1/jobs", headers, body });
  call.send(bytes.subarray(0, bytes.length - 10));
  const uploads = (): number => openUploads(door.portico.stateDir);
  await eventually("it is being written", () => uploads() > 0);
  call.reset();
  await eventually("nothing is left", async () => uploads() === 0 && (await stored()).length === 0);
});
