import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { config } from "../../worker/env.ts";

const TEAM = "https://team.cloudflareaccess.com";
const withAccess = (ACCESS_TEAM_DOMAIN: string, ACCESS_AUD: string, more = {}) =>
  config({ ...env, LOCAL_MODE: "false", ACCESS_TEAM_DOMAIN, ACCESS_AUD, ...more }).accessApp;

test("an Access application needs both of its variables", () => {
  expect(withAccess("", "")).toBeNull();
  expect(withAccess(TEAM, "tag")).toEqual({ issuer: TEAM, audience: "tag" });
  expect(() => withAccess(TEAM, "")).toThrow("ACCESS_AUD");
  expect(() => withAccess("", "tag")).toThrow("ACCESS_AUD");
});

test("a team domain is a bare https origin; http on this machine is allowed in local mode only", () => {
  for (const wrong of [
    "team",
    "team.cloudflareaccess.com",
    `${TEAM}/`,
    `${TEAM}/x`,
    "http://team.cloudflareaccess.com",
  ])
    expect(() => withAccess(wrong, "tag"), wrong).toThrow("ACCESS_TEAM_DOMAIN");
  expect(() => withAccess("http://127.0.0.1:8000", "tag")).toThrow("ACCESS_TEAM_DOMAIN");
  expect(withAccess("http://127.0.0.1:8000", "tag", { LOCAL_MODE: "true" })).not.toBeNull();
  expect(() => withAccess("http://10.0.0.1:8000", "tag", { LOCAL_MODE: "true" })).toThrow("ACCESS_TEAM_DOMAIN");
});
