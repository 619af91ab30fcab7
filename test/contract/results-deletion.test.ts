/** A deleted result is gone at once, with the stored answer that holds it, and no other tenant's result is. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

const door = doorway({ services: { common: { kind: "image", route: "/common/sdapi/v1/", cache: { shared: true } } } });
const NOT_FOUND = /^404 not_found not_found/;

let json: Record<string, unknown>;
let made: Answer;
let url: URL;
beforeEach(async () => {
  json = picture();
  made = expectOk(await door.paint(json));
  url = new URL(linksOf(made)[0] ?? "");
});

const remove = (path: string, key = door.ownKey) => door.ask(path, { method: "DELETE", key });
const removeIf = (headers: Record<string, string>) => door.ask(url.pathname, { method: "DELETE", headers });
const isHit = (answer: Answer) => answer.header("cache-status")?.includes("hit") === true;
const common = (key: string) => door.ask("/common/sdapi/v1/txt2img", { json, key });

async function expectGone(path: string): Promise<void> {
  expect(refusalOf(await door.ask(path))).toMatch(NOT_FOUND);
  expect((await door.ask(path, { method: "HEAD" })).status).toBe(404);
}

test("a deleted result is gone at once, for keys and for signed URLs", async () => {
  expectOk(await door.ask(url.pathname));
  expectOk(await door.ask(targetOf(url.href), { key: null }));
  const answer = await remove(url.pathname);
  expect([200, 204]).toContain(answer.status);
  await expectGone(url.pathname);
  expect((await door.ask(targetOf(url.href), { key: null })).status).toBe(404);
  expect((await door.ask(url.pathname, { headers: { range: "bytes=0-3" } })).status).toBe(404);
  expect((await door.ask(url.pathname, { headers: { "if-none-match": "*" } })).status).toBe(404);
});

/** Writes an object as another isolate does, a moment after its answer was sent. */
async function putLater(key: string, tenant: string, meta: Record<string, string>): Promise<void> {
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  await new Promise((resolve) => {
    setTimeout(resolve, 150);
  });
  await bucket.put(key, "bytes", { customMetadata: { tenant, maker: tenant, ...meta } });
}

test("a result that is still being written is deleted, with the answer that holds it", async () => {
  const tenant = await door.tenant();
  const key = await door.key({ tenant });
  const id = "onItsWay00000000000000000";
  const answer = `${tenant}/answers/on-its-way`;
  const times = { createdAt: String(Date.now()), expiresAt: String(Date.now() + 3_600_000) };
  const result = putLater(`results/${id}`, tenant, { answer, sha256: "00", visibility: "signed", ...times });
  const removed = remove(`/v1/results/${id}`, key);
  await result;
  await putLater(answer, tenant, { results: id });
  expect((await removed).status).toBe(204);
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  expect(await bucket.head(`results/${id}`)).toBeNull();
  expect(await bucket.head(answer)).toBeNull();
});

describe("a DELETE with a false precondition is 412 and deletes nothing:", () => {
  const PAST = "Sun, 06 Nov 1994 08:49:37 GMT";
  for (const headers of [{ "if-match": '"other"' }, { "if-unmodified-since": PAST }, { "if-none-match": "*" }]) {
    test(Object.keys(headers).join(), async () => {
      const refused = await removeIf(headers);
      expect(refused.status).toBe(412);
      expect(refused.header("cache-control")).toBe("no-store");
      expectOk(await door.ask(url.pathname));
      expect(isHit(await door.paint(json))).toBe(true);
    });
  }

  test("and a true one deletes it", async () => {
    const etag = expectOk(await door.ask(url.pathname)).header("etag") ?? "";
    expect((await removeIf({ "if-match": etag, "if-unmodified-since": PAST })).status).toBe(204);
    await expectGone(url.pathname);
  });
});

test("a second DELETE is 404", async () => {
  await remove(url.pathname);
  expect(refusalOf(await remove(url.pathname))).toMatch(NOT_FOUND);
});

test("simultaneous DELETEs do no harm", async () => {
  const answers = await Promise.all([remove(url.pathname), remove(url.pathname), remove(url.pathname)]);
  for (const { status } of answers) expect([200, 204, 404]).toContain(status);
  expect(answers.some(({ status }) => status < 300)).toBe(true);
  await expectGone(url.pathname);
});

test("the stored answer is deleted with its result: the same request runs again", async () => {
  expect(isHit(await door.paint(json))).toBe(true);
  await remove(url.pathname);
  const before = door.starts();
  const again = expectOk(await door.paint(json));
  expect(isHit(again)).toBe(false);
  expect(door.starts()).toBe(before + 1);
  const [fresh = ""] = linksOf(again);
  expect(new URL(fresh).pathname).not.toBe(url.pathname);
  expectOk(await door.ask(targetOf(fresh), { key: null }));
  await expectGone(url.pathname);
});

test("deleting one of several images deletes the stored answer and keeps the other images", async () => {
  const many = { ...picture(), batch_size: 3 };
  const links = linksOf(expectOk(await door.paint(many))).map((link) => new URL(link).pathname);
  await remove(links[1] ?? "");
  await expectGone(links[1] ?? "");
  expectOk(await door.ask(links[0] ?? ""));
  expectOk(await door.ask(links[2] ?? ""));
  expect(isHit(expectOk(await door.paint(many)))).toBe(false);
});

test("a sound is deleted with its stored answer", async () => {
  const text = { text: `deleted ${Date.now()}` };
  const [link = ""] = linksOf(expectOk(await door.speak(text)));
  await remove(new URL(link).pathname);
  await expectGone(new URL(link).pathname);
  expect(isHit(expectOk(await door.speak(text)))).toBe(false);
});

test("the request record has no working link to a deleted result", async () => {
  await remove(url.pathname);
  const { text } = expectOk(await door.ask(`/v1/requests/${made.header("x-request-id")}`));
  const { results }: { results: { url: string }[] } = JSON.parse(text);
  for (const result of results) {
    expect((await door.ask(targetOf(result.url), { key: null })).status).toBe(404);
  }
});

describe("another tenant", () => {
  test("gets 404 and cannot delete it", async () => {
    expect(refusalOf(await remove(url.pathname, await door.key()))).toMatch(NOT_FOUND);
    expectOk(await door.ask(url.pathname));
    expect(isHit(await door.paint(json))).toBe(true);
  });

  test("that made the same keeps its own", async () => {
    const other = await door.key();
    const [theirs = ""] = linksOf(expectOk(await door.paint(json, { key: other })));
    await remove(url.pathname);
    expectOk(await door.ask(new URL(theirs).pathname, { key: other }));
    expect(isHit(await door.paint(json, { key: other }))).toBe(true);
  });
});

describe("with a shared cache, no tenant's deletion touches another's:", () => {
  test("a tenant that hit keeps its results when the maker deletes them", async () => {
    const [a, b] = [await door.key(), await door.key()];
    const [mine = ""] = linksOf(expectOk(await common(a)));
    const hit = expectOk(await common(b));
    expect(isHit(hit)).toBe(true);
    expect(linksOf(hit)).toHaveLength(1);
    expect([200, 204]).toContain((await remove(new URL(mine).pathname, a)).status);
    for (const link of linksOf(hit)) expectOk(await door.ask(targetOf(link), { key: null }));
    expect((await door.ask(new URL(mine).pathname, { key: a })).status).toBe(404);
  });

  test("a tenant that deleted a result is not offered it again", async () => {
    const [a, b] = [await door.key(), await door.key()];
    for (const key of [a, b]) {
      const [link = ""] = linksOf(expectOk(await common(key)));
      expect([200, 204]).toContain((await remove(new URL(link).pathname, key)).status);
      expect((await door.ask(targetOf(link), { key: null })).status).toBe(404);
      const [fresh = ""] = linksOf(expectOk(await common(key)));
      expect(new URL(fresh).pathname).not.toBe(new URL(link).pathname);
      expectOk(await door.ask(targetOf(fresh), { key: null }));
      expectOk(await door.ask(new URL(fresh).pathname, { key }));
    }
  });

  test("a tenant that hit cannot delete the maker's results", async () => {
    const [a, b] = [await door.key(), await door.key()];
    const [mine = ""] = linksOf(expectOk(await common(a)));
    const hit = expectOk(await common(b));
    expect(linksOf(hit)).toHaveLength(1);
    for (const link of linksOf(hit)) await remove(new URL(link).pathname, b);
    await remove(new URL(mine).pathname, b);
    expectOk(await door.ask(new URL(mine).pathname, { key: a }));
    expectOk(await door.ask(targetOf(mine), { key: null }));
    expect(isHit(await common(a))).toBe(true);
  });
});

test("deleting a result needs the infer scope", async () => {
  const tenant = await door.tenant();
  const [full, infer, read] = await Promise.all([
    door.key({ tenant }),
    door.key({ tenant, scopes: ["infer"] }),
    door.key({ tenant, scopes: ["results"] }),
  ]);
  const [link = ""] = linksOf(expectOk(await door.paint({}, { key: full })));
  expect(refusalOf(await remove(new URL(link).pathname, read))).toBe("403 forbidden permission_error scope");
  expect([200, 204]).toContain((await remove(new URL(link).pathname, infer)).status);
});

test("a DELETE without a key gets 401", async () => {
  expect((await door.ask(url.pathname, { method: "DELETE", key: null })).status).toBe(401);
  expectOk(await door.ask(url.pathname));
});

test("a purge right after the answers deletes their results, even if their rows are not written yet", async () => {
  const tenant = await door.tenant();
  const key = await door.key({ tenant });
  const answers = await Promise.all([1, 2, 3].map((seed) => door.paint(picture({ seed, prompt: "fresh" }), { key })));
  const links = answers.flatMap((answer) => linksOf(expectOk(answer)));
  const purged = await door.portico.admin<{ results: number; done: boolean }>("POST", "/purge", {
    what: "all",
    tenant,
  });
  expect(purged).toMatchObject({ results: 3, done: true });
  for (const link of links) expect((await door.ask(new URL(link).pathname, { key })).status).toBe(404);
});
