/** 429 `address`: an address that guesses keys is slowed down, and valid keys are not. */
import { expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, refusalOf } from "./doorway.ts";

const door = doorway();
const READ = "/sdapi/v1/sd-models";
const WINDOW_MS = 10_000;
const FREE_GUESSES = 100;
const AT_ONCE = 10;

/** A well-formed key with a wrong checksum. */
const guess = (i: number) => `${door.ownKey.slice(0, -8)}${String(i).padStart(8, "0")}`;

/** Calls one by one take too long on a slow machine, and calls all at once have no order. */
async function guessMany(from: number, count: number, headers: Record<string, string> = {}): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let i = from; i < from + count; i += AT_ONCE) {
    const batch = Array.from({ length: Math.min(AT_ONCE, from + count - i) }, (_, j) =>
      door.ask(READ, { key: guess(i + j), headers }),
    );
    answers.push(...(await Promise.all(batch)));
  }
  return answers;
}

test(
  "more than 100 wrong checksums in 10 s from one address get 429 address, and a valid key does not",
  { timeout: 40_000 },
  async () => {
    const before = door.starts();
    const start = performance.now();
    const first = await guessMany(0, FREE_GUESSES);
    expect(new Set(first.map((answer) => answer.status))).toEqual(new Set([401]));
    expectOk(await door.ask(READ));

    const more = await guessMany(FREE_GUESSES, 20);
    expect(performance.now() - start, "the machine is too slow for this test").toBeLessThan(WINDOW_MS);
    for (const answer of more) expect(refusalOf(answer)).toBe("429 rate_limited rate_limit_error address");

    // A valid key is still accepted, however it is presented.
    expectOk(await door.ask(READ));
    expectOk(await door.ask(READ, { key: null, headers: { "x-api-key": door.ownKey } }));
    expectOk(await door.paint());
    // A request without a key does not count as a guess.
    expect(refusalOf(await door.ask(READ, { key: null }))).toBe("401 invalid_api_key authentication_error missing");

    // Headers that claim another address change nothing.
    for (const name of ["x-forwarded-for", "x-real-ip", "true-client-ip", "cf-connecting-ip", "forwarded"]) {
      const [spoofed] = await guessMany(1_000, 1, { [name]: name === "forwarded" ? "for=203.0.113.7" : "203.0.113.7" });
      expect(spoofed?.status, name).toBe(429);
    }

    // After Retry-After, a guess gets 401 again.
    const [last] = await guessMany(2_000, 1);
    const seconds = last?.header("retry-after") ?? "";
    expect(seconds).toMatch(/^[1-9][0-9]?$/);
    await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1_000));
    const [after] = await guessMany(3_000, 1);
    expect(after?.status).toBe(401);
    expect(door.starts()).toBe(before + 1);
  },
);
