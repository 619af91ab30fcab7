/** Jobs as callers see them. */
import { expect } from "vitest";
import type { Doorway } from "../contract/doorway.ts";

export interface JobShown {
  id: string;
  service: string;
  status: "queued" | "running" | "succeeded" | "failed" | "canceled";
  queue_position: number | null;
  eta_s: number | null;
  waiting_on: string | null;
  attempts: number;
  tries: { number: number; card: string | null; error: Record<string, unknown> | null }[];
  progress: number | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  cost: number | null;
  results: { id: string; url: string; content_type: string; bytes: number; sha256: string }[];
  output: unknown;
  error: Record<string, unknown> | null;
}

const OVER_MS_MAX = 60_000;

/** Submits a job; returns its id. */
export async function submitted(door: Doorway, json: unknown, key = door.ownKey): Promise<string> {
  const answer = await door.ask("/v1/jobs", { json, key });
  expect(answer.status, answer.text).toBe(202);
  return (JSON.parse(answer.text) as JobShown).id;
}

export async function show(door: Doorway, id: string, query = "", key = door.ownKey): Promise<JobShown> {
  const answer = await door.ask(`/v1/jobs/${id}${query}`, { key });
  expect(answer.status, answer.text).toBe(200);
  return JSON.parse(answer.text) as JobShown;
}

/** Waits until a card runs the job. */
export async function begun(door: Doorway, id: string, key = door.ownKey): Promise<void> {
  const job = await show(door, id, "", key);
  const later = job.status === "queued" ? await show(door, id, "?wait=20", key) : job;
  expect(later.status).toBe("running");
}

/** Waits until the job has ended, and returns it. */
export async function over(door: Doorway, id: string, key = door.ownKey, msMax = OVER_MS_MAX): Promise<JobShown> {
  for (const from = Date.now(); ;) {
    const job = await show(door, id, "?wait=10", key);
    if (job.finished_at !== null) return job;
    if (Date.now() - from > msMax) throw new Error(`not over after ${msMax} ms: ${JSON.stringify(job)}`);
  }
}
