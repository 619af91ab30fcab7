import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chooseDeployment } from "../../cli/deployment.ts";
import { ROOT } from "../../local/root.ts";
import { temporaryFolders } from "../support/folders.ts";
import { portico, run } from "./command.ts";
import { scripted } from "./scripted.ts";

const newFolder = temporaryFolders();
const dev = { path: "/state/dev.json", url: "http://127.0.0.1:8787", token: "dev-token" };

test("flags take precedence over variables, and variables over the file of a running instance", () => {
  const env = { PORTICO_URL: "https://env.example/", PORTICO_TOKEN: "env-token" };
  expect(chooseDeployment({ url: "https://flag.example/x/", token: "flag-token" }, env, dev)).toEqual({
    url: "https://flag.example/x",
    token: "flag-token",
    tokenFrom: "--token",
  });
  expect(chooseDeployment({}, env, dev)).toEqual({
    url: "https://env.example",
    token: "env-token",
    tokenFrom: "PORTICO_TOKEN",
  });
  expect(chooseDeployment({}, { PORTICO_URL: "" }, dev)).toEqual({
    url: dev.url,
    token: "dev-token",
    tokenFrom: dev.path,
  });
});

test("the token in the file is used only for the address in the file", () => {
  expect(chooseDeployment({ url: "https://other.example" }, {}, dev).token).toBeNull();
  expect(chooseDeployment({ url: "http://127.0.0.1:9999" }, {}, dev).token).toBeNull();
  expect(chooseDeployment({ url: "http://127.0.0.1:8787/" }, {}, dev).token).toBe("dev-token");
});

test("a token is sent over http: only to this machine", () => {
  for (const host of ["127.0.0.1", "localhost:8787", "[::1]:8787"])
    expect(chooseDeployment({ url: `http://${host}`, token: "t" }, {}, null).token).toBe("t");
  for (const host of ["example.com", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1"])
    expect(() => chooseDeployment({ url: `http://${host}`, token: "t" }, {}, null)).toThrow(/not sent over http: to/);
  expect(chooseDeployment({ url: "http://example.com" }, {}, null).token).toBeNull();
});

test("an address with credentials or a query, or a token with spaces, is refused without being printed", () => {
  for (const url of [
    "https://user:secret@example.com",
    "https://example.com/?key=secret",
    "ftp://secret.example",
    "secret",
  ])
    expect(() => chooseDeployment({ url }, {}, null)).toThrow(/^(?!.*secret)/);
  expect(() => chooseDeployment({ url: "https://example.com", token: "two words" }, {}, null)).toThrow(/^(?!.*words)/);
});

test("without a deployment or a token, the command says what is missing and what to do", async () => {
  expect(await portico(["tenants", "list"])).toEqual({
    code: 2,
    out: "",
    err: "portico: No deployment is named. Set PORTICO_URL and PORTICO_TOKEN, or start one here: npm start.\n",
  });
  expect(await portico(["tenants", "list"], { url: "https://gpu.example.com" })).toMatchObject({
    code: 2,
    err: "portico: No operator's token for https://gpu.example.com is given. Set PORTICO_TOKEN.\n",
  });
});

test("the command finds the instance that npm start left in dev.json, and rejects any other dev.json", async () => {
  const api = await scripted(() => ({ body: { data: [], next_cursor: null } }));
  const stateDir = newFolder();
  writeFileSync(join(stateDir, "dev.json"), JSON.stringify({ url: api.url, admin_token: "dev-token" }));
  expect(await portico(["leases"], { stateDir })).toEqual({ code: 0, out: "There are none.\n", err: "" });
  expect(api.heard).toMatchObject([{ call: "GET /admin/v1/leases?limit=200", token: "Bearer dev-token" }]);
  await api.stop();

  writeFileSync(join(stateDir, "dev.json"), '{"url":1}');
  expect(await portico(["leases"], { stateDir })).toMatchObject({
    code: 2,
    err: expect.stringContaining("dev.json is not what npm start writes"),
  });
});

test("npx portico works in the project's folder and below it, without network", async () => {
  const cache = newFolder();
  for (const cwd of [ROOT, join(ROOT, "worker", "db")]) {
    const settings = [`npm_config_cache=${cache}`, "npm_config_offline=true", "npm_config_registry=http://127.0.0.1:9"];
    const ran = await run("env", [...settings, "npx", "portico", "--help"], { cwd });
    expect(ran.err).toBe("");
    expect(ran.out).toMatch(/^Usage: portico /);
  }
});

test("a relative --file path is resolved against the caller's working directory", async () => {
  const cwd = newFolder();
  mkdirSync(join(cwd, "sub"));
  writeFileSync(join(cwd, "sub", "body.json"), "{}");
  const api = await scripted(() => ({ body: { id: "s" } }));
  const ran = portico(["services", "put", "s", "--file", "sub/body.json"], { cwd, url: api.url, token: "t" });
  expect(await ran).toMatchObject({ code: 0 });
  await api.stop();
});
