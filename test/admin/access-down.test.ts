/** The signing keys of Cloudflare Access cannot be fetched: assertions are rejected, and tokens keep working. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { AUDIENCE, startTeam } from "./access-team.ts";
import { frontDoor } from "./front-door.ts";

const team = await startTeam();
afterAll(() => team.close());
const door = frontDoor({ vars: { ACCESS_TEAM_DOMAIN: team.issuer, ACCESS_AUD: AUDIENCE } });

const CALLS = 10;
/** A failed fetch of the keys is remembered for 5 s. */
const PAUSE_MS = 5_200;
const DAY_SHIFT = "day-shift@example.com";

/** Status and message of the answer to a call with an assertion. */
async function comes(kid = "rsa"): Promise<{ status: number; message: string }> {
  const assertion = await team.assertion({ email: DAY_SHIFT }, { kid });
  const headers = { "cf-access-jwt-assertion": assertion };
  const { status, text } = await door.admin("GET", "/services", undefined, { token: null, headers });
  const { error }: { error?: { message: string } } = JSON.parse(text);
  return { status, message: error?.message ?? "" };
}
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
const failuresLogged = async () =>
  (await readFile(join(door.stateDir, "portico.log"), "utf8")).split("access_keys_failed").length - 1;

test(
  "assertions get 401 while the signing keys cannot be fetched, with one fetch attempt per pause",
  { timeout: 60_000 },
  async () => {
    await door.done("POST", "/operators", { name: "day-shift", role: "admin", email: DAY_SHIFT });
    const ways = [{ status: 302, body: "" }, { status: 200, body: "<html>" }, "silence"] as const;
    for (const [i, broken] of ways.entries()) {
      team.answer(broken);
      for (let call = 0; call < CALLS; call++) {
        const { status, message } = await comes();
        expect(status).toBe(401);
        expect(message).toContain("the signing keys of Cloudflare Access cannot be fetched now");
      }
      expect(team.asked()).toBe(i + 1);
      expect(await failuresLogged()).toBe(i + 1);
      expect((await door.admin("GET", "/services")).status).toBe(200);
      await pause();
    }

    team.answer(null);
    expect((await comes()).status).toBe(200);
    // Keys that were fetched stay valid after an assertion with an unknown key makes a new fetch fail.
    team.answer({ status: 500, body: "" });
    expect((await comes("new")).message).toContain("is not valid; sign in again");
    expect((await comes()).status).toBe(200);
  },
);
