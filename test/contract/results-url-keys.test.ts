/** Rotation of the keys that sign URLs: the first one signs, all of them verify, and a removed one verifies no more. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { doorway, expectOk, linksOf, refusalOf, targetOf } from "./doorway.ts";

const door = doorway();
const NEW = `k2:${"n".repeat(43)}`;

async function restartWith(change: (old: string) => string): Promise<void> {
  const path = join(door.portico.stateDir, "secrets.json");
  const kept = JSON.parse(await readFile(path, "utf8")) as { URL_KEYS: string };
  kept.URL_KEYS = change(kept.URL_KEYS);
  await writeFile(path, JSON.stringify(kept));
  await door.portico.restart();
}

test("a signed URL works until its key is removed, and the first key signs new URLs", async () => {
  const [old = ""] = linksOf(expectOk(await door.paint()));
  await restartWith((keys) => `${NEW},${keys}`);
  expectOk(await door.ask(targetOf(old), { key: null }));
  const [fresh = ""] = linksOf(expectOk(await door.paint()));
  expect(new URL(fresh).searchParams.get("kid")).toBe("k2");
  expectOk(await door.ask(targetOf(fresh), { key: null }));
  await restartWith(() => NEW);
  expect(refusalOf(await door.ask(targetOf(old), { key: null }))).toBe("403 forbidden permission_error bad_signature");
  expectOk(await door.ask(targetOf(fresh), { key: null }));
  expectOk(await door.ask(new URL(old).pathname));
});
