/**
 * `npm start`: starts the front door on this machine with simulated cards behind it, seeds it and tries it out. In this
 * order:
 *
 *     state folder -> address -> build -> front door and cards -> seed -> demonstration -> dev.json -> greeting
 *
 * dev.json is written last, atomically, and removed when the address in it no longer answers.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "./failure.ts";
import { AddressError, needFree, watchAddress } from "./address.ts";
import { Admin } from "./admin.ts";
import { bundle } from "./build.ts";
import { drawPicture, type Shown, speak } from "./demo.ts";
import { Ending } from "./ending.ts";
import { greeting } from "./greeting.ts";
import { isLoopback, type Options, readOptions, urlOf, UsageError, usage } from "./options.ts";
import { writePrivate } from "./private-file.ts";
import type { Runtime } from "./runtime.ts";
import { loadSecrets, type Secrets } from "./secrets.ts";
import { parkCards, seedCards, seedKey, SERVICES } from "./seed.ts";
import { sendHeartbeats, type Simulator, startSimulator } from "./simulator.ts";
import { StateError, takeStateDir } from "./state.ts";

/** With more crashes of the runtime than this, local mode ends. */
const CRASHES_MAX = 3;

const say = (line: string) => console.log(line);
const ending = new Ending(say);
// A closed terminal is handled through its signal; failed writes to it are ignored.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

try {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === null) say(usage());
  else await start(options);
} catch (error) {
  if (!ending.begun) {
    const expected = error instanceof UsageError || error instanceof StateError || error instanceof AddressError;
    console.error(expected ? error.message : error);
    await ending.run(error instanceof UsageError ? 2 : 1);
  }
}

async function start(options: Options): Promise<void> {
  const { host, port, stateDir } = options;
  ending.listen();
  const url = urlOf(host, port);
  const state = takeStateDir(stateDir, { url }, options.fresh);
  ending.add(() => state.release());
  await needFree(host, port);
  if (!isLoopback(host)) warnExposed(host);

  const secrets = await loadSecrets(stateDir);
  const built = await step("Worker built", () => bundle());
  const [runtime, cards] = await Promise.all([
    step("Front door started", () => openDoor(options, secrets, built)),
    options.cards ? step("Simulated cards started", () => startCards()) : null,
  ]);
  const admin = new Admin(url, secrets.ADMIN_TOKEN);
  if (cards === null) await finishBare(admin, options, secrets, runtime);
  else await finishWithCards(admin, options, secrets, runtime, cards);
}

async function openDoor(
  { host, port, stateDir }: Options,
  secrets: Secrets,
  built: Awaited<ReturnType<typeof bundle>>,
): Promise<Runtime> {
  // Loads wrangler, which takes a second: a start that fails earlier should not wait for it.
  const { startRuntime } = await import("./runtime.ts");
  let crashes = 0;
  const onCrash = () => {
    crashes += 1;
    say(`The runtime crashed and was restarted (${crashes}); stored state is intact.`);
    if (crashes > CRASHES_MAX) fail("The runtime keeps crashing; see portico.log in the state folder.");
  };
  const publicUrl = process.env["PUBLIC_URL"] || undefined;
  const runtime = await startRuntime({ bundle: built, host, port, stateDir, secrets, publicUrl, say, onCrash });
  ending.add(() => runtime.stop());
  ending.add(
    watchAddress(runtime.url, () => fail(`${runtime.url} has stopped answering; see portico.log in the state folder.`)),
  );
  return runtime;
}

async function startCards(): Promise<Simulator> {
  const cards = await startSimulator((why) => fail(`The simulated cards ${why}`));
  ending.add(() => cards.stop());
  return cards;
}

async function finishWithCards(
  admin: Admin,
  { stateDir }: Options,
  secrets: Secrets,
  { url }: Runtime,
  cards: Simulator,
): Promise<void> {
  const tokens = await step(`${cards.cards.length} cards listed in ${SERVICES.length} services`, () =>
    seedCards(admin, stateDir, cards.cards),
  );
  await sendHeartbeats(cards, url, tokens);
  const key = await seedKey(admin, url, stateDir);
  const picture = await shown("A picture", () => drawPicture(url, key, stateDir));
  const sound = await shown("A sound", () => speak(url, key, stateDir));
  await writeDevFile(
    stateDir,
    url,
    secrets,
    key,
    SERVICES.map((service) => service.id),
  );
  say(greeting({ url, stateDir, key, picture, sound }));
}

async function finishBare(admin: Admin, { stateDir }: Options, secrets: Secrets, { url }: Runtime): Promise<void> {
  const parked = await parkCards(admin, stateDir);
  if (parked.length > 0) say(`  Simulated cards of an earlier start disabled: ${parked.join(", ")}`);
  await writeDevFile(stateDir, url, secrets, null, []);
  say(greeting({ url, stateDir, key: null, picture: null, sound: null }));
}

async function writeDevFile(
  stateDir: string,
  url: string,
  secrets: Secrets,
  key: string | null,
  services: string[],
): Promise<void> {
  const path = join(stateDir, "dev.json");
  const content = { url, admin_token: secrets.ADMIN_TOKEN, api_key: key, services };
  await writePrivate(path, `${JSON.stringify(content, null, 2)}\n`);
  // If a signal came during the write, the shutdown tried to remove the file before it existed.
  if (ending.begun) await rm(path, { force: true });
}

/**
 * A refusal here is usually caused by an operator's own setting (a pause, a limit): it is reported, and the front door
 * stays open.
 */
async function shown(name: string, work: () => Promise<Shown>): Promise<Shown | null> {
  try {
    return await step(`${name} made`, work);
  } catch (error) {
    if (!ending.begun) console.error(`  ${name} could not be made: ${messageOf(error)}`);
    return null;
  }
}

async function step<T>(done: string, work: () => Promise<T>): Promise<T> {
  const from = performance.now();
  const result = await work();
  say(`  ${done} (${((performance.now() - from) / 1000).toFixed(1)} s)`);
  return result;
}

function fail(why: string): void {
  if (ending.begun) return;
  console.error(why);
  void ending.run(1);
}

function warnExposed(host: string): void {
  console.error(
    `HOST=${host} lets other machines in. Local mode is for this machine alone: it sends requests to any port of 127.0.0.1\n` +
      "that an operator names, and it has no TLS. Do this only on a network that you trust; for anything else, deploy.",
  );
}
