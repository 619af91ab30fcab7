/** Guessing attacks on keys, signatures and tokens: a guess costs no lookup, and no answer tells how close it was. */
import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { loadSecrets } from "../../local/secrets.ts";
import { expectOk, linksOf, refusalOf } from "../contract/doorway.ts";
import type { Answer } from "../support/raw.ts";
import { countedDoorway, costOf } from "./cost.ts";

const door = await countedDoorway();
const READ = "/sdapi/v1/sd-models";
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** Returns a well-formed key with a valid checksum, which takes the deployment's secret to make. */
async function forged(id: string): Promise<string> {
  const { KEY_SECRET } = await loadSecrets(door.portico.stateDir);
  const body = `ptk_live_${id}_${"b".repeat(30)}`;
  const mac = createHmac("sha256", KEY_SECRET).update(`key-checksum\n${body}`).digest();
  let value = mac.subarray(0, 5).reduce((sum, byte) => sum * 256 + byte, 0);
  let checksum = "";
  for (let i = 0; i < 7; i++) {
    checksum = ALPHABET.charAt(value % 62) + checksum;
    value = Math.floor(value / 62);
  }
  return body + checksum;
}

describe("a guess", () => {
  test("of a key costs no lookup, whatever it requests", async () => {
    const [url = ""] = linksOf(expectOk(await door.paint()));
    const { pathname } = new URL(url);
    const key = `${door.ownKey.slice(0, -7)}0000000`;
    const targets = [READ, "/sdapi/v1/nothing", "/v1/requests/x", pathname];
    const cost = await costOf(door, async () => {
      for (const target of targets) expect((await door.ask(target, { key })).status, target).toBe(401);
      expect((await door.ask(pathname, { key, method: "DELETE" })).status).toBe(401);
      expect((await door.paint({}, { key })).status).toBe(401);
    });
    expect(cost).toEqual({ limits: targets.length + 2 });
  });

  test("with a valid checksum costs one lookup in total, and the answer hides whether its id exists", async () => {
    const key = await forged("abcdefghijkl");
    const [, , id = ""] = door.ownKey.split("_");
    const answers: Answer[] = [];
    const cost = await costOf(door, async () => {
      for (let i = 0; i < 5; i++) answers.push(await door.ask(READ, { key }));
    });
    expect(cost).toEqual({ d1_reads: 1 });
    const own = await forged(id);
    const cost2 = await costOf(door, async () => {
      for (let i = 0; i < 5; i++) answers.push(await door.ask(READ, { key: own }));
    });
    expect(cost2).toEqual({ d1_reads: 1 });
    expect(new Set(answers.map(refusalOf))).toEqual(new Set(["401 invalid_api_key authentication_error unknown"]));
    expectOk(await door.ask(READ));
  });

  test("of a result's signature costs no lookup", async () => {
    const { pathname, searchParams } = new URL(linksOf(expectOk(await door.paint()))[0] ?? "");
    const sig = searchParams.get("sig") ?? "";
    const wrong = [
      "",
      "A",
      sig.slice(1),
      `${sig}A`,
      sig.toLowerCase(),
      `${sig}=`,
      "A".repeat(43),
      "%00",
      "A".repeat(9_000),
    ];
    const cost = await costOf(door, async () => {
      for (const one of wrong) {
        const query = `?exp=${searchParams.get("exp")}&kid=${searchParams.get("kid")}&sig=${one}`;
        const answer = await door.ask(pathname + query, { key: null });
        expect(refusalOf(answer), one).toBe("403 forbidden permission_error bad_signature");
      }
      for (const exp of ["99999999999", "1e99", "Infinity", "-1", "0x7fffffff", "9".repeat(400)]) {
        const answer = await door.ask(`${pathname}?exp=${exp}&kid=${searchParams.get("kid")}&sig=${sig}`, {
          key: null,
        });
        expect(answer.status, exp).toBe(403);
      }
    });
    expect(cost).toEqual({});
  });

  test("of an operator's or a card's token costs no lookup", async () => {
    const cost = await costOf(door, async () => {
      for (const key of ["ptc_x", "ptc_", "x", door.ownKey, `${door.portico.adminToken}x`]) {
        expect((await door.ask("/admin/v1/tenants", { key })).status).toBe(401);
      }
    });
    expect(cost).toEqual({});
  });
});
