/** Deleted results of jobs disappear from every view of the job, in every dialect. */
import { expect, test } from "vitest";
import { doorway, expectOk, picture } from "../contract/doorway.ts";
import { over, submitted } from "./shown.ts";

const door = doorway();
const MADE_IN_S = 30;
const HOUR_MS = 3_600_000;

interface Shown {
  status: string;
  results: { id: string; url: string }[];
}
const read = async <T>(target: string) => JSON.parse(expectOk(await door.ask(target)).text) as T;
const remove = (id: string) => door.ask(`/v1/results/${id}`, { method: "DELETE" });
const jobOf = (input: object) => ({ service: "portrait", input: picture(input) });

test("a deleted result disappears from every view of its job, and the others remain", async () => {
  const id = await submitted(door, jobOf({ batch_size: 2 }));
  const [first, second] = (await over(door, id)).results;
  expect((await remove(first?.id ?? "")).status).toBe(204);
  const left = [second?.id];
  const { results, status } = await read<Shown>(`/v1/jobs/${id}`);
  expect([status, results.map((each) => each.id)]).toEqual(["succeeded", left]);
  const { data } = await read<{ data: Shown[] }>("/v1/jobs?limit=1");
  expect(data.map((job) => job.results.map((each) => each.id))).toEqual([left]);
  const prediction = await read<{ output: string[]; data_removed: boolean }>(`/replicate/v1/predictions/${id}`);
  expect(prediction).toMatchObject({ output: [expect.stringContaining(left[0] ?? "-")], data_removed: false });
  const { images } = await read<{ images: { url: string }[] }>(`/fal/queue/portico/portrait/requests/${id}`);
  expect(images.map(({ url }) => url)).toEqual([expect.stringContaining(left[0] ?? "-")]);
});

test("when all results are deleted, the prediction reports their removal and the job has none", async () => {
  const id = await submitted(door, jobOf({}));
  for (const result of (await over(door, id)).results) expect((await remove(result.id)).status).toBe(204);
  expect((await read<Shown>(`/v1/jobs/${id}`)).results).toEqual([]);
  expect(await read(`/replicate/v1/predictions/${id}`)).toMatchObject({ output: null, data_removed: true });
  expect(await read(`/fal/queue/portico/portrait/requests/${id}`)).not.toHaveProperty("images");
});

test("a result whose row is missing is still listed", async () => {
  const id = await submitted(door, jobOf({}));
  const made = await over(door, id);
  const row = (await door.portico.mf().getD1Database("DB")).prepare("DELETE FROM results WHERE id = ?");
  await expect.poll(async () => (await row.bind(made.results[0]?.id).run()).meta.changes).toBe(1);
  expect((await read<Shown>(`/v1/jobs/${id}`)).results).toHaveLength(1);
});

test("a no-store job keeps its results for an hour at most", async () => {
  const headers = { prefer: "respond-async", "cache-control": "no-store" };
  const from = Date.now();
  const answer = await door.paint(picture(), { headers });
  const { id } = JSON.parse(answer.text) as { id: string };
  const { results } = await over(door, id);
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  const meta = (await bucket.head(`results/${results[0]?.id}`))?.customMetadata;
  expect(Number(meta?.["expiresAt"]) - from).toBeLessThan(HOUR_MS + MADE_IN_S * 1_000);
});

test("once a waiting caller has the answer of a no-store job, nothing of it remains stored", async () => {
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  const stored = async () =>
    (await bucket.list()).objects.map(({ key }) => key).filter((key) => !key.startsWith("ageing"));
  const before = await stored();
  const headers = { prefer: `wait=${MADE_IN_S}`, "cache-control": "no-store" };
  const answer = expectOk(await door.paint(picture(), { headers }));
  expect((JSON.parse(answer.text) as { images: string[] }).images).toHaveLength(1);
  const sound = expectOk(await door.speak({ text: "nothing of it is left" }, { headers }));
  expect(sound.body.subarray(0, 4).toString("latin1")).toBe("RIFF");
  await expect.poll(stored, { timeout: 5_000 }).toEqual(before);
  const { data } = await read<{ data: Shown[] }>("/v1/jobs?limit=2");
  expect(data.map(({ status, results }) => [status, results])).toEqual(data.map(() => ["succeeded", []]));
});
