/** Reading results by key and by signed URL, and the headers of a result. */
import { createHash, createHmac } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { loadSecrets } from "../../local/secrets.ts";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

/** Short enough to wait for its end, long enough to read before. */
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

/** A result of the default tenant. */
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

/** Signs a result's URL with the deployment's own key, as the Worker does, until `exp` (epoch seconds). */
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
  test("with a key of its tenant, however it is presented", async () => {
    expectWhole(await door.ask(url.pathname));
    expectWhole(await door.ask(url.pathname, { key: null, headers: { "x-api-key": door.ownKey } }));
  });

  test("with exp, kid and sig and no key, in any order and among other parameters", async () => {
    expectWhole(await signed(url.search));
    const [exp, kid, sig] = ["exp", "kid", "sig"].map(
      (name) => `${name}=${encodeURIComponent(url.searchParams.get(name) ?? "")}`,
    );
    expectWhole(await signed(`?${sig}&${kid}&${exp}`));
    expectWhole(await signed(`?other=1&${sig}&${kid}&${exp}`));
  });

  test("by its signed URL in the body of /v1/requests too", async () => {
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
  test("without a key and a signature: 401 missing", async () => {
    expect(refusalOf(await signed(""))).toBe(MISSING);
    expect(refusalOf(await signed("?download=x.png"))).toBe(MISSING);
    expect(refusalOf(await signed("?other=1"))).toBe(MISSING);
  });

  test("with a key of another tenant: 404, whatever the query", async () => {
    const key = await door.key();
    expect(refusalOf(await door.ask(url.pathname, { key }))).toMatch(NOT_FOUND);
    expect((await door.ask(url.pathname, { key, method: "HEAD" })).status).toBe(404);
    // If there is a key, the key decides.
    expect(refusalOf(await door.ask(targetOf(url.href), { key }))).toMatch(NOT_FOUND);
  });

  test("with an invalid key, although the signature is valid: the key decides", async () => {
    const answer = await door.ask(targetOf(url.href), { key: "ptk_live_nobody_0" });
    expect(answer.status).toBe(401);
    expect((await door.ask(targetOf(url.href), { key: await door.key({ scopes: ["infer"] }) })).status).toBe(403);
  });

  test("but a valid key reads it, although the signature is invalid", async () => {
    expectWhole(await door.ask(`${url.pathname}?exp=1&kid=k1&sig=bad`));
    expectWhole(await door.ask(`${url.pathname}?sig=bad`));
  });

  test("when it never existed: 404 with a key, just as for another tenant's, and 403 with a signature", async () => {
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
  test("when any of its parts is changed", async () => {
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

  test("when its numbers are only spelled differently", async () => {
    for (const query of [
      changed("exp", (old) => `0${old}`),
      changed("exp", (old) => `${old}.0`),
      changed("exp", (old) => ` ${old}`),
      changed("exp", (old) => `+${old}`),
    ]) {
      expect(refusalOf(await signed(query)), query).toBe(BAD);
    }
  });

  test("when a part is repeated, with the same value or another", async () => {
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

  test("when it belongs to another result", async () => {
    const [other = ""] = linksOf(await door.paint());
    expect(refusalOf(await signed(url.search, new URL(other).pathname))).toBe(BAD);
  });

  test("before its expiry is checked: an old exp that is not signed is not 410", async () => {
    expect(refusalOf(await signed(changed("exp", () => "1")))).toBe(BAD);
  });

  test("or 401 on DELETE: it only reads", async () => {
    const answer = await door.ask(targetOf(url.href), { key: null, method: "DELETE" });
    expect([401, 403]).toContain(answer.status);
    expectWhole(await signed(url.search));
  });
});

describe("a signed URL", () => {
  test("is absolute, at our own address, and valid for 24 h", () => {
    expect(url.origin).toBe(door.portico.url);
    const left = Number(url.searchParams.get("exp")) - Date.now() / 1_000;
    expect(left).toBeGreaterThan(DAY_S - 120);
    expect(left).toBeLessThanOrEqual(DAY_S + 2);
  });

  test("names a result by an id that is hard to guess", async () => {
    const id = url.pathname.split("/").at(-1) ?? "";
    expect(id.length).toBeGreaterThanOrEqual(20);
    const [next = ""] = linksOf(await door.paint());
    expect(new URL(next).pathname.split("/").at(-1)?.slice(0, 6)).not.toBe(id.slice(0, 6));
  });
});

describe("the headers of a result", () => {
  test("include its SHA-256 as ETag and Repr-Digest, and its length", async () => {
    for (const answer of [await door.ask(url.pathname), await signed(url.search)]) {
      expect(answer.header("etag")).toBe(`"${digest("sha256", "hex")}"`);
      expect(answer.header("repr-digest")).toBe(`sha-256=:${digest("sha256", "base64")}:`);
      expect(answer.header("accept-ranges")).toBe("bytes");
      expect(answer.header("content-length")).toBe(String(bytes.length));
      expect(answer.header("content-disposition")).toBe(null);
    }
  });

  test("allow private caching for the rest of its life", async () => {
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

describe("an expired signature is 410 expired_signature", () => {
  test("from the second that it names, and valid until then", async () => {
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

  test("before any lookup, also for a result that never existed", async () => {
    const never = "/v1/results/AAAAAAAAAAAAAAAAAAAAAAAA";
    expect(refusalOf(await signed(await signatureUntil(nowS() - 1, never), never))).toBe(`${GONE} expired_signature`);
    expect(refusalOf(await signed(await signatureUntil(nowS() + 60, never), never))).toMatch(NOT_FOUND);
  });

  test("but a key of its tenant still reads the result", async () => {
    expectWhole(await door.ask(url.pathname + (await signatureUntil(nowS() - 1))));
  });
});

test("an expired result is 410 for its tenant and for a valid signature, and 404 for others", async () => {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, brief.at + BRIEF_S * 1_000 + 500 - Date.now())));
  expect(refusalOf(await door.ask(brief.url.pathname))).toBe(`${GONE} expired_result`);
  expect(refusalOf(await signed(brief.url.search, brief.url.pathname))).toBe(`${GONE} expired_result`);
  expect(refusalOf(await door.ask(brief.url.pathname, { key: await door.key() }))).toMatch(NOT_FOUND);
  expect(refusalOf(await signed(url.search, brief.url.pathname))).toBe(BAD);
});
