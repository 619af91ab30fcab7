/** Section 8: reading results: by key, by signed URL, and what every answer says of the bytes. */
import { createHash, createHmac } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { loadSecrets } from "../../local/secrets.ts";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

/** Short enough to outlive it, long enough to read before. */
const BRIEF_S = 6;
const DAY_S = 86_400;
const door = doorway({
  services: {
    brief: { kind: "image", route: "/brief/sdapi/v1/", results: { keep_days: BRIEF_S / DAY_S } },
    common: { kind: "image", route: "/common/sdapi/v1/", cache: { shared: true } },
  },
});
const MISSING = "401 invalid_api_key authentication_error missing";
const BAD = "403 forbidden permission_error bad_signature";
const NOT_FOUND = /^404 not_found not_found/;

const GONE = "410 gone not_found";

/** One result of the own tenant. */
let url: URL;
let bytes: Buffer;
/** A result that lives for BRIEF_S, and when it was made. */
let brief: { url: URL; id: string | null; at: number };

beforeAll(async () => {
  const short = expectOk(await door.ask("/brief/sdapi/v1/txt2img", { json: picture() }));
  brief = { url: new URL(linksOf(short)[0] ?? ""), id: short.header("x-request-id"), at: Date.now() };
  expectOk(await door.ask(brief.url.pathname));
  const answer = expectOk(await door.paint());
  url = new URL(linksOf(answer)[0] ?? "");
  const { images }: { images: string[] } = JSON.parse(answer.text);
  bytes = Buffer.from(images[0] ?? "", "base64");
});

const signed = (query: string, path = url.pathname) => door.ask(`${path}${query}`, { key: null });
const digest = (algorithm: string, encoding: "hex" | "base64") => createHash(algorithm).update(bytes).digest(encoding);

const nowS = () => Math.floor(Date.now() / 1_000);

/** A query that signs a result under the deployment's own key, as the Worker does, until `exp` (seconds of the epoch). */
async function signatureUntil(exp: number, path = url.pathname): Promise<string> {
  const [kid = "", secret = ""] = (await loadSecrets(door.portico.stateDir)).URL_KEYS.split(":");
  const id = path.split("/").at(-1);
  const sig = createHmac("sha256", secret).update(`result-url\n${id}\n${exp}`).digest("base64url");
  return `?exp=${exp}&kid=${kid}&sig=${sig}`;
}

function expectWhole(answer: Answer): void {
  expectOk(answer);
  expect(answer.body.equals(bytes)).toBe(true);
  expect(answer.header("content-type")).toBe("image/png");
}

describe("a result is read", () => {
  test("with a key of its tenant, presented in whichever way", async () => {
    expectWhole(await door.ask(url.pathname));
    expectWhole(await door.ask(url.pathname, { key: null, headers: { "x-api-key": door.ownKey } }));
  });

  test("with exp, kid and sig and no key, in any order and among others", async () => {
    expectWhole(await signed(url.search));
    const [exp, kid, sig] = ["exp", "kid", "sig"].map(
      (name) => `${name}=${encodeURIComponent(url.searchParams.get(name) ?? "")}`,
    );
    expectWhole(await signed(`?${sig}&${kid}&${exp}`));
    expectWhole(await signed(`?other=1&${sig}&${kid}&${exp}`));
  });

  test("by its signed URL in the body of /v1/requests as well", async () => {
    const answer = expectOk(await door.paint());
    const { text } = await door.ask(`/v1/requests/${answer.header("x-request-id")}`);
    const { results }: { results: { url: string }[] } = JSON.parse(text);
    expectOk(await door.ask(targetOf(results[0]?.url ?? ""), { key: null }));
  });

  test("also when it is a sound", async () => {
    const sound = expectOk(await door.speak({ text: `a sound ${Date.now()}` }));
    const [link = ""] = linksOf(sound);
    const result = expectOk(await door.ask(targetOf(link), { key: null }));
    expect(result.body.equals(sound.body)).toBe(true);
    expect(result.header("content-type")).toBe("audio/wav");
  });
});

describe("a result is refused", () => {
  test("with neither key nor signature: 401 missing", async () => {
    expect(refusalOf(await signed(""))).toBe(MISSING);
    expect(refusalOf(await signed("?download=x.png"))).toBe(MISSING);
    expect(refusalOf(await signed("?other=1"))).toBe(MISSING);
  });

  test("with a key of another tenant: 404, whatever the query", async () => {
    const key = await door.key();
    expect(refusalOf(await door.ask(url.pathname, { key }))).toMatch(NOT_FOUND);
    expect((await door.ask(url.pathname, { key, method: "HEAD" })).status).toBe(404);
    // With a key present the key decides.
    expect(refusalOf(await door.ask(targetOf(url.href), { key }))).toMatch(NOT_FOUND);
  });

  test("with a key that is none, although the signature is good: the key decides", async () => {
    const answer = await door.ask(targetOf(url.href), { key: "ptk_live_nobody_0" });
    expect(answer.status).toBe(401);
    expect((await door.ask(targetOf(url.href), { key: await door.key({ scopes: ["infer"] }) })).status).toBe(403);
  });

  test("but a good key reads it, although the signature is bad", async () => {
    expectWhole(await door.ask(`${url.pathname}?exp=1&kid=k1&sig=bad`));
    expectWhole(await door.ask(`${url.pathname}?sig=bad`));
  });

  test("when it never was: 404 with a key, 403 with a signature, and no difference to one of another tenant", async () => {
    const [never, theirs] = [
      "/v1/results/AAAAAAAAAAAAAAAAAAAAAAAA",
      linksOf(await door.paint({}, { key: await door.key() }))[0],
    ];
    const answers = [await door.ask(never), await door.ask(new URL(theirs ?? "").pathname)];
    for (const answer of answers) expect(refusalOf(answer)).toMatch(NOT_FOUND);
    const said = answers.map(({ text }) => text.replaceAll(/req_\w+|\d{4}-[\dT:-]+Z/g, ""));
    expect(said[0]).toBe(said[1]);
    expect(refusalOf(await signed(url.search, never))).toBe(BAD);
  });
});

const changed = (name: string, value: (old: string) => string) => {
  const query = new URLSearchParams(url.search);
  query.set(name, value(query.get(name) ?? ""));
  return `?${query}`;
};

describe("a signature is 403 bad_signature", () => {
  test("when any of its parts was changed", async () => {
    const exp = Number(url.searchParams.get("exp"));
    const forged = [
      changed("sig", (old) => `${old.slice(0, -1)}${old.endsWith("A") ? "B" : "A"}`),
      changed("sig", (old) => `${old.startsWith("A") ? "B" : "A"}${old.slice(1)}`),
      changed("sig", (old) => old.toLowerCase()),
      changed("sig", (old) => `${old}A`),
      changed("sig", (old) => old.slice(0, 10)),
      changed("sig", () => ""),
      changed("sig", () => "%00"),
      changed("exp", () => String(exp + 1)),
      changed("exp", () => "99999999999"),
      changed("exp", () => ""),
      changed("exp", () => "-1"),
      changed("exp", () => "Infinity"),
      changed("exp", () => "1e99"),
      changed("kid", () => "k2"),
      changed("kid", () => ""),
      changed("kid", () => "__proto__"),
    ];
    for (const query of forged) expect(refusalOf(await signed(query)), query).toBe(BAD);
  });

  test("when its numbers or letters are only spelt otherwise", async () => {
    for (const query of [
      changed("exp", (old) => `0${old}`),
      changed("exp", (old) => `${old}.0`),
      changed("exp", (old) => ` ${old}`),
      changed("exp", (old) => `+${old}`),
    ]) {
      expect(refusalOf(await signed(query)), query).toBe(BAD);
    }
  });

  test("when a part is doubled, with the same value or another", async () => {
    for (const name of ["exp", "kid", "sig"]) {
      const value = encodeURIComponent(url.searchParams.get(name) ?? "");
      expect(refusalOf(await signed(`${url.search}&${name}=${value}`)), name).toBe(BAD);
      expect(refusalOf(await signed(`${url.search}&${name}=x`)), name).toBe(BAD);
      expect(refusalOf(await signed(`?${name}=x&${url.search.slice(1)}`)), name).toBe(BAD);
    }
  });

  test("when one or two of the three are missing", async () => {
    for (const names of [["exp"], ["kid"], ["sig"], ["exp", "kid"], ["exp", "sig"], ["kid", "sig"]]) {
      const query = new URLSearchParams(names.map((name) => [name, url.searchParams.get(name) ?? ""]));
      expect(refusalOf(await signed(`?${query}`)), names.join()).toBe(BAD);
    }
  });

  test("when it is another result's", async () => {
    const [other = ""] = linksOf(await door.paint());
    expect(refusalOf(await signed(url.search, new URL(other).pathname))).toBe(BAD);
  });

  test("before its time is looked at: an old exp that is not signed is no 410", async () => {
    expect(refusalOf(await signed(changed("exp", () => "1")))).toBe(BAD);
  });

  test("and reads, never deletes", async () => {
    const answer = await door.ask(targetOf(url.href), { key: null, method: "DELETE" });
    expect([401, 403]).toContain(answer.status);
    expectWhole(await signed(url.search));
  });
});

describe("a signed URL", () => {
  test("is absolute, at our own address, and good for 24 h", () => {
    expect(url.origin).toBe(door.portico.url);
    const left = Number(url.searchParams.get("exp")) - Date.now() / 1_000;
    expect(left).toBeGreaterThan(DAY_S - 120);
    expect(left).toBeLessThanOrEqual(DAY_S + 2);
  });

  test("names a result by an id that nobody guesses", async () => {
    const id = url.pathname.split("/").at(-1) ?? "";
    expect(id.length).toBeGreaterThanOrEqual(20);
    const [next = ""] = linksOf(await door.paint());
    expect(new URL(next).pathname.split("/").at(-1)?.slice(0, 6)).not.toBe(id.slice(0, 6));
  });
});

describe("the headers of a result", () => {
  test("are its SHA-256 as ETag and Repr-Digest, its length and its type", async () => {
    for (const answer of [await door.ask(url.pathname), await signed(url.search)]) {
      expect(answer.header("etag")).toBe(`"${digest("sha256", "hex")}"`);
      expect(answer.header("repr-digest")).toBe(`sha-256=:${digest("sha256", "base64")}:`);
      expect(answer.header("accept-ranges")).toBe("bytes");
      expect(answer.header("content-length")).toBe(String(bytes.length));
      expect(answer.header("content-disposition")).toBe(null);
    }
  });

  test("let it be kept privately for the rest of its life", async () => {
    const [, maxAge] =
      /^private, max-age=(\d+), immutable$/.exec((await door.ask(url.pathname)).header("cache-control") ?? "") ?? [];
    expect(Number(maxAge)).toBeGreaterThan(30 * DAY_S - 120);
    expect(Number(maxAge)).toBeLessThanOrEqual(30 * DAY_S);
    const short = await door.ask(brief.url.pathname);
    if (short.status === 200)
      expect(Number(/max-age=(\d+)/.exec(short.header("cache-control") ?? "")?.[1])).toBeLessThanOrEqual(BRIEF_S);
  });

  test("are the same for HEAD, without the body", async () => {
    const [get, head] = [await door.ask(url.pathname), await door.ask(url.pathname, { method: "HEAD" })];
    expect(head.status).toBe(200);
    expect(head.body).toHaveLength(0);
    for (const name of ["etag", "repr-digest", "accept-ranges", "content-type", "content-length", "last-modified"]) {
      expect(head.header(name), name).toBe(get.header(name));
    }
    expect((await door.ask(targetOf(url.href), { key: null, method: "HEAD" })).status).toBe(200);
  });
});

describe("a signature whose time is over is 410 expired_signature", () => {
  test("from the second that it names; until then it reads", async () => {
    expectWhole(await signed(await signatureUntil(nowS() + 60)));
    for (const ago of [1, 60, DAY_S]) {
      const answer = await signed(await signatureUntil(nowS() - ago));
      expect(refusalOf(answer), `${ago} s ago`).toBe(`${GONE} expired_signature`);
      expect(answer.header("cache-control")).toBe("no-store");
    }
  });

  test("for HEAD too", async () => {
    const target = url.pathname + (await signatureUntil(nowS() - 1));
    expect((await door.ask(target, { key: null, method: "HEAD" })).status).toBe(410);
  });

  test("before any look-up: a result that never was is no exception", async () => {
    const never = "/v1/results/AAAAAAAAAAAAAAAAAAAAAAAA";
    expect(refusalOf(await signed(await signatureUntil(nowS() - 1, never), never))).toBe(`${GONE} expired_signature`);
    expect(refusalOf(await signed(await signatureUntil(nowS() + 60, never), never))).toMatch(NOT_FOUND);
  });

  test("but a key of its tenant reads all the same", async () => {
    expectWhole(await door.ask(url.pathname + (await signatureUntil(nowS() - 1))));
  });
});

test("a result is kept for its time; then it is 410 to its tenant and to a valid signature, and 404 to others", async () => {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, brief.at + BRIEF_S * 1_000 + 500 - Date.now())));
  expect(refusalOf(await door.ask(brief.url.pathname))).toBe(`${GONE} expired_result`);
  expect(refusalOf(await signed(brief.url.search, brief.url.pathname))).toBe(`${GONE} expired_result`);
  expect(refusalOf(await door.ask(brief.url.pathname, { key: await door.key() }))).toMatch(NOT_FOUND);
  expect(refusalOf(await signed(url.search, brief.url.pathname))).toBe(BAD);
});
