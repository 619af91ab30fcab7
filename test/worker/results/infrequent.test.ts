import { env } from "cloudflare:workers";
import { beforeEach, expect, test, vi } from "vitest";
import { sweep } from "../../../worker/results/ageing.ts";
import { pays } from "../../../worker/results/infrequent.ts";
import { completeService } from "../../../worker/services/kinds.ts";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2027, 0, 1);
const MB = 1_000_000;

test("moving pays for large results with a long life, and never for less than a month", () => {
  expect(pays(2 * MB, 30 * DAY_MS)).toBe(true);
  expect(pays(1.8 * MB, 30 * DAY_MS)).toBe(false);
  expect(pays(1000 * MB, 29 * DAY_MS)).toBe(false);
  expect(pays(0.2 * MB, 330 * DAY_MS)).toBe(true);
  expect(pays(0.15 * MB, 330 * DAY_MS)).toBe(false);
});

/** The bucket with recorded writes; the local one does not keep the class. */
function seen(): { bucket: R2Bucket; puts: [key: string, options: R2PutOptions][] } {
  const puts: [string, R2PutOptions][] = [];
  const bucket = new Proxy(env.RESULTS, {
    get: (real, name) => {
      const member: unknown = Reflect.get(real, name);
      if (typeof member !== "function") return member;
      if (name !== "put") return member.bind(real) as unknown;
      return (key: string, value: ReadableStream, options: R2PutOptions) => {
        puts.push([key, options]);
        return real.put(key, value, options);
      };
    },
  });
  return { bucket, puts };
}

async function service(id: string, infrequent_after_days: number | null): Promise<void> {
  const put = { kind: "image" as const, route: `/${id}/`, results: { infrequent_after_days } };
  const config = JSON.stringify(completeService(put, null));
  await env.DB.prepare("INSERT OR REPLACE INTO services VALUES (?, ?, ?, 0, 1, 1)").bind(id, `/${id}/`, config).run();
}

async function result(id: string, of: string, ageDays: number, bytes: number): Promise<void> {
  const customMetadata = {
    tenant: "ten_1",
    service: of,
    createdAt: String(NOW - ageDays * DAY_MS),
    expiresAt: String(NOW + 300 * DAY_MS),
  };
  await env.RESULTS.put(`results/${id}`, new Uint8Array(bytes), {
    customMetadata,
    httpMetadata: { contentType: "image/png" },
  });
}

beforeEach(async () => {
  await env.RESULTS.delete((await env.RESULTS.list()).objects.map(({ key }) => key));
  await env.DB.prepare("DELETE FROM services").run();
});

test("a sweep moves only results that are old and large enough, and keeps key, bytes and metadata", async () => {
  await service("cold", 30);
  await service("warm", null);
  await result("old", "cold", 31, 400_000);
  await result("small", "cold", 31, 1_000);
  await result("young", "cold", 29, 400_000);
  await result("elsewhere", "warm", 31, 400_000);
  const before = await env.RESULTS.head("results/old");
  const { bucket, puts } = seen();
  await sweep({ ...env, RESULTS: bucket }, NOW);
  expect(puts.map(([key, { storageClass }]) => [key, storageClass])).toEqual([["results/old", "InfrequentAccess"]]);
  const after = await env.RESULTS.get("results/old");
  expect(after?.customMetadata).toEqual(before?.customMetadata);
  expect(after?.httpMetadata?.contentType).toBe("image/png");
  expect((await after?.arrayBuffer())?.byteLength).toBe(400_000);
});

test("a result that is deleted while it is moved stays deleted", async () => {
  await service("cold", 30);
  await result("deleted", "cold", 31, 400_000);
  const { bucket, puts } = seen();
  const racing = new Proxy(bucket, {
    get: (real, name) => {
      const member: unknown = Reflect.get(real, name);
      if (name !== "get" || typeof member !== "function") return member;
      return async (key: string) => {
        const object: unknown = await Reflect.apply(member, real, [key]);
        if (key === "results/deleted") await env.RESULTS.delete(key);
        return object;
      };
    },
  });
  await sweep({ ...env, RESULTS: racing }, NOW);
  expect(puts).toHaveLength(1);
  expect(await env.RESULTS.head("results/deleted")).toBeNull();
});

test("if no service enables it, results are not listed", async () => {
  await service("warm", null);
  const list = vi.fn<R2Bucket["list"]>((options) => env.RESULTS.list(options));
  const bucket = new Proxy(env.RESULTS, {
    get: (real, name) => {
      const member: unknown = Reflect.get(real, name);
      return name === "list" ? list : typeof member === "function" ? (member.bind(real) as unknown) : member;
    },
  });
  await sweep({ ...env, RESULTS: bucket }, NOW);
  expect(list.mock.calls.map(([options]) => options?.prefix)).toEqual(["inputs/", "jobs/", "files/"]);
});
