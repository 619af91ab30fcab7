import { expect, test } from "vitest";
import { keyedHash, makeKey, readKey } from "../../../worker/caller/keys.ts";

const SECRET = "a key secret of at least thirty-two characters";
const OTHER = "another key secret of at least thirty-two characters";

test("a generated key is read back with its id", async () => {
  const made = await makeKey(SECRET, "ptk");
  expect(made.key).toMatch(/^ptk_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{37}$/);
  expect(await readKey(SECRET, "ptk", made.key)).toEqual({ ok: true, id: made.id });
  expect(made.tail).toBe(made.key.slice(-4));
});

test("all generated keys differ", async () => {
  const keys = await Promise.all(Array.from({ length: 50 }, () => makeKey(SECRET, "ptk")));
  expect(new Set(keys.map((made) => made.key)).size).toBe(50);
});

test("a key with any one character changed fails the checksum", async () => {
  const { key } = await makeKey(SECRET, "ptk");
  const prefix = "ptk_live_".length;
  for (let at = prefix; at < key.length; at++) {
    if (key[at] === "_") continue;
    const changed = `${key.slice(0, at)}${key[at] === "A" ? "B" : "A"}${key.slice(at + 1)}`;
    expect(await readKey(SECRET, "ptk", changed), `character ${at}`).toEqual({ ok: false, why: "checksum" });
  }
});

test("a key of another deployment fails the checksum", async () => {
  const { key } = await makeKey(OTHER, "ptk");
  expect(await readKey(SECRET, "ptk", key)).toEqual({ ok: false, why: "checksum" });
});

test("text without the shape of a key is rejected", async () => {
  const { key } = await makeKey(SECRET, "ptk");
  for (const text of ["", "ptk_live_", key.slice(1), `${key}0`, key.replace("live", "test"), key.replace(/.$/, "-")]) {
    expect(await readKey(SECRET, "ptk", text), text).toEqual({ ok: false, why: "shape" });
  }
});

test("the keyed hash is the same for the same key and differs by key and by secret", async () => {
  const { key, hash } = await makeKey(SECRET, "ptk");
  expect(hash).toMatch(/^[0-9a-f]{64}$/);
  expect(await keyedHash(SECRET, key)).toBe(hash);
  expect(await keyedHash(OTHER, key)).not.toBe(hash);
  expect(await keyedHash(SECRET, `${key}0`)).not.toBe(hash);
});
