import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Admin } from "../../local/admin.ts";
import { PICTURE, secondsOfWav, sizeOfPng } from "../../local/demo.ts";
import { temporaryFolders } from "../support/folders.ts";
import { type DevFile, end, endAllLocal, freePort, startLocal } from "../support/local.ts";

const STARTS_MS_MAX = 80_000;

const newFolder = temporaryFolders();
afterAll(endAllLocal);

const admin = (dev: DevFile) => new Admin(dev.url, dev.admin_token);

async function draw(dev: DevFile): Promise<Response> {
  return fetch(dev.url + PICTURE.path, {
    method: "POST",
    headers: { authorization: `Bearer ${dev.api_key}`, "content-type": "application/json" },
    body: JSON.stringify(PICTURE.body),
  });
}

test(
  "npm start makes a picture and a sound and writes dev.json; Ctrl-C ends everything within 5 s",
  async () => {
    const [stateDir, port] = [join(newFolder(), "state"), await freePort()];
    const local = startLocal({ port, stateDir });
    const dev = await local.ready();
    expect(dev).toEqual({
      url: `http://127.0.0.1:${port}`,
      admin_token: expect.stringMatching(/^.{43}$/),
      api_key: expect.stringMatching(/^ptk_live_/),
      services: ["portrait", "cosyvoice2"],
    });
    expect(statSync(join(stateDir, "dev.json")).mode & 0o777).toBe(0o600);
    expect(sizeOfPng(readFileSync(join(stateDir, "demo.png")))).toEqual({ width: 512, height: 512 });
    expect(secondsOfWav(readFileSync(join(stateDir, "demo.wav")))).toBeGreaterThan(1);
    const status = await (await fetch(`${dev.url}/cluster/status`)).json();
    expect(status).toMatchObject({ total_capacity: 12, servers: 3, gpus_per_server: 2, concurrent_per_gpu: 2 });
    expect(local.family().length).toBeGreaterThanOrEqual(3);

    expect(await end(local, "SIGINT")).toBe(0);
    expect(local.output()).toContain("Portico is ready.");
    expect(local.output()).toContain(dev.api_key);
    expect(existsSync(join(stateDir, "dev.json"))).toBe(false);
  },
  STARTS_MS_MAX,
);

test(
  "two instances run side by side; a restart after kill -9 keeps the key and creates nothing twice",
  async () => {
    const places = [newFolder(), newFolder()].map((folder) => join(folder, "state"));
    const [one, other] = [
      startLocal({ port: await freePort(), stateDir: places[0] ?? "" }),
      startLocal({ port: await freePort(), stateDir: places[1] ?? "" }),
    ];
    const [dev, otherDev] = await Promise.all([one.ready(), other.ready()]);
    expect(dev.api_key).not.toBe(otherDev.api_key);
    expect(
      (await fetch(`${otherDev.url}/v1/requests/none`, { headers: { authorization: `Bearer ${dev.api_key}` } })).status,
    ).toBe(401);

    const inUse = startLocal({ port: await freePort(), stateDir: places[1] ?? "" });
    expect(await inUse.exit).toBe(1);
    expect(inUse.output()).toContain(`in use by another instance`);
    expect(inUse.output()).toContain(otherDev.url);
    expect(await end(other, "SIGTERM")).toBe(0);

    expect(await end(one, "SIGKILL")).toBe("SIGKILL");
    const again = startLocal({ port: Number(new URL(one.url).port), stateDir: places[0] ?? "" });
    const devAgain = await again.ready();
    expect(devAgain).toEqual(dev);
    expect((await draw(devAgain)).headers.get("cache-status")).toContain("hit");
    const api = admin(devAgain);
    expect((await api.all("/tenants")).length).toBe(1);
    expect((await api.all("/keys")).length).toBe(1);
    expect((await api.all("/services")).length).toBe(2);
    expect((await api.all("/cards")).length).toBe(6);
    await end(again, "SIGINT");
  },
  STARTS_MS_MAX,
);

test(
  "--no-sim disables the cards of an earlier start; the next start restores only those",
  async () => {
    const [stateDir, port] = [join(newFolder(), "state"), await freePort()];
    const states = async (dev: DevFile) => {
      const cards = await admin(dev).all<{ id: string; state: string }>("/cards");
      return Object.fromEntries(cards.map((card) => [card.id, card.state]));
    };
    const first = startLocal({ port, stateDir });
    const dev = await first.ready();
    const ids = Object.keys(await states(dev));
    await admin(dev).call("PATCH", "/cards/gpu-01-0", { state: "disabled" });
    await admin(dev).call("PATCH", "/cards/gpu-01-1", { state: "draining" });
    await end(first, "SIGINT");

    const bare = startLocal({ port, stateDir, args: ["--no-sim"] });
    const bareDev = await bare.ready();
    expect(bareDev).toEqual({ url: dev.url, admin_token: dev.admin_token, api_key: null, services: [] });
    expect(await states(bareDev)).toEqual(Object.fromEntries(ids.map((id) => [id, "disabled"])));
    await end(bare, "SIGINT");

    const third = startLocal({ port, stateDir });
    const given = await states(await third.ready());
    expect(given).toEqual({
      ...Object.fromEntries(ids.map((id) => [id, "active"])),
      "gpu-01-0": "disabled",
      "gpu-01-1": "draining",
    });
    await end(third, "SIGINT");
  },
  STARTS_MS_MAX,
);

test(
  "--fresh --no-sim starts without services and tenants, and with a new admin token",
  async () => {
    const [stateDir, port] = [join(newFolder(), "state"), await freePort()];
    const first = startLocal({ port, stateDir, args: ["--no-sim"] });
    const dev = await first.ready();
    await admin(dev).call("POST", "/tenants", { name: "gone soon" });
    await end(first, "SIGINT");
    const fresh = startLocal({ port, stateDir, args: ["--no-sim", "--fresh"] });
    const freshDev = await fresh.ready();
    expect(freshDev.admin_token).not.toBe(dev.admin_token);
    expect(await admin(freshDev).all("/tenants")).toEqual([]);
    expect(await admin(freshDev).all("/services")).toEqual([]);
    await end(fresh, "SIGINT");
  },
  STARTS_MS_MAX,
);
