/**
 * The secrets of local mode: generated at the first start and kept in STATE_DIR/secrets.json, readable by its owner
 * only. The demonstration's API key is kept there too, because the API shows a key only once and dev.json contains it
 * at every start.
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "./failure.ts";
import { writePrivate } from "./private-file.ts";

export interface Secrets {
  ADMIN_TOKEN: string;
  KEY_SECRET: string;
  URL_KEYS: string;
}

export interface DemoKey {
  tenant: string;
  id: string;
  key: string;
}

interface Kept {
  secrets: Secrets;
  demo_key: DemoKey | null;
}

const pathIn = (stateDir: string) => join(stateDir, "secrets.json");
const random = () => randomBytes(32).toString("base64url");

export async function loadSecrets(stateDir: string): Promise<Secrets> {
  const kept = await read(stateDir);
  if (kept !== null) return kept.secrets;
  const secrets = { ADMIN_TOKEN: random(), KEY_SECRET: random(), URL_KEYS: `k1:${random()}` };
  await write(stateDir, { secrets, demo_key: null });
  return secrets;
}

export async function loadDemoKey(stateDir: string): Promise<DemoKey | null> {
  return (await read(stateDir))?.demo_key ?? null;
}

export async function keepDemoKey(stateDir: string, key: DemoKey): Promise<void> {
  await write(stateDir, { secrets: await loadSecrets(stateDir), demo_key: key });
}

async function read(stateDir: string): Promise<Kept | null> {
  let text: string;
  try {
    text = await readFile(pathIn(stateDir), "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
  const { demo_key, ...secrets }: Secrets & { demo_key: DemoKey | null } = JSON.parse(text);
  return { secrets, demo_key };
}

async function write(stateDir: string, { secrets, demo_key }: Kept): Promise<void> {
  await writePrivate(pathIn(stateDir), `${JSON.stringify({ ...secrets, demo_key }, null, 2)}\n`);
}
