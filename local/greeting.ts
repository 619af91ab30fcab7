/** What the terminal shows when everything is ready. Pure. */
import { relative } from "node:path";
import { PICTURE, type Shown, SOUND } from "./demo.ts";

/** The state folder that `npx portico` uses by default. */
const STATE_DIR = ".portico";

export interface Ready {
  url: string;
  stateDir: string;
  /** Null with --no-sim. */
  key: string | null;
  picture: Shown | null;
  sound: Shown | null;
}

export function greeting(ready: Ready, cwd = process.cwd()): string {
  const near = (path: string) => {
    const short = relative(cwd, path);
    return short.startsWith("..") || short === "" ? path : short;
  };
  const shown = (it: Shown | null) =>
    it === null
      ? "failed, see above"
      : `${near(it.file)}  (${it.what}, ${it.hit ? "from the cache" : "new"}, ${it.ms} ms)`;
  const rows: [string, string][] = [
    ["Front door", `${ready.url}   (/docs, /cluster/status)`],
    ["Admin token", `ADMIN_TOKEN in ${near(`${ready.stateDir}/secrets.json`)}`],
    [
      "Watch it",
      `${near(ready.stateDir) === STATE_DIR ? "" : `STATE_DIR=${near(ready.stateDir)} `}npx portico status --watch`,
    ],
  ];
  if (ready.key !== null) {
    rows.splice(1, 0, ["API key", ready.key]);
    rows.push(["A picture", shown(ready.picture)], ["A sound", shown(ready.sound)]);
  }
  const table = rows.map(([name, value]) => `  ${name.padEnd(12)} ${value}`);
  return [
    "",
    "Portico is ready.",
    "",
    ...table,
    "",
    ...suggestions(ready, near(ready.stateDir)),
    "",
    "Ctrl-C stops it; the state is kept.",
  ].join("\n");
}

function suggestions({ url, key }: Ready, dir: string): string[] {
  if (key === null)
    return ["No simulated cards run. Add your own: PUT /admin/v1/services/ID, then .../cards/CARD (see /docs)."];
  const post = (path: string, body: object, rest: string) =>
    `  curl -sS ${url}${path} -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${JSON.stringify(body)}' ${rest}`;
  const picture = post(
    PICTURE.path,
    { ...PICTURE.body, prompt: "a quiet harbour in the morning", seed: 7 },
    `-D - -o '${dir}/picture.json'`,
  );
  return [
    "Make a picture; its URL is in the Link header:",
    picture,
    "The same request again is a cache hit: no card runs, and the answer has Cache-Status: portico; hit",
    picture,
    "Make a sound:",
    post(SOUND.path, { text: "Good morning. This was spoken by a simulated card." }, `-o '${dir}/speech.wav'`),
  ];
}
