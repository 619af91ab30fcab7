/** Paths and methods, sent unmodified over the socket. */
import { describe, expect, test } from "vitest";
import { doorway, errorOf, expectOk, refusalOf } from "./doorway.ts";

const door = doorway();
const NOT_FOUND = /^404 not_found not_found/;
const allowed = (header: string | null) => (header ?? "").split(",").map((method) => method.trim());

describe("bad paths are 400 bad_path and never reach a card:", () => {
  const BAD = [
    "/sdapi%2fv1/txt2img",
    "/sdapi/v1%2Ftxt2img",
    "/sdapi/v1/sd%2dmodels%2f",
    "/sdapi/v1%5ctxt2img",
    "/sdapi/v1%5Ctxt2img",
    "/sdapi/v1/%2e%2e/v1/sd-models",
    "/sdapi/v1/%2E/sd-models",
    "/sdapi/v1/sd%2emodels",
    "/sdapi//v1/sd-models",
    "//sdapi/v1/sd-models",
    "/sdapi/v1//sd-models",
    "/sdapi/v1/sd-models//",
    "/sdapi/v1/../v1/sd-models",
    "/sdapi/v1/txt2img/..",
    "/../sdapi/v1/sd-models",
    "/sdapi/v1/..%2fsd-models",
    "/sdapi/v1/.%2e/v1/sd-models",
    "/sdapi/v1/%2e./v1/sd-models",
    "/sdapi/v1/options/../sd-models",
    "/v1/results/../../admin/v1/services",
    "/v1//fingerprint",
  ];
  for (const target of BAD) {
    test(target, async () => {
      const reached = door.park.cards.flatMap(({ card }) => door.park.heads(card)).length;
      for (const method of ["GET", "POST"]) {
        const answer = await door.ask(target, method === "GET" ? {} : { json: { seed: 1 } });
        expect(refusalOf(answer), method).toBe("400 invalid_request invalid_request_error bad_path");
      }
      expect(door.park.cards.flatMap(({ card }) => door.park.heads(card))).toHaveLength(reached);
    });
  }

  test("a raw backslash", async () => {
    for (const target of ["/sdapi/v1\\sd-models", "/sdapi\\v1\\sd-models", "/sdapi/v1/..\\sd-models"]) {
      expect(refusalOf(await door.ask(target)), target).toBe("400 invalid_request invalid_request_error bad_path");
    }
  });
});

test("a query may contain what is refused in a path", async () => {
  expectOk(await door.ask("/sdapi/v1/sd-models?a=%2f..//%5c%2e\\"));
});

test("a path is matched as a whole and is case-sensitive", async () => {
  for (const target of [
    "/SDAPI/v1/sd-models",
    "/sdapi/v1/SD-MODELS",
    "/sdapi/v1/sd-models/",
    "/sdapi/v1/sd-model",
    "/sdapi/v1/",
  ]) {
    expect(refusalOf(await door.ask(target)), target).toMatch(NOT_FOUND);
  }
});

test("a percent-encoded letter is decoded at most once", async () => {
  const answer = await door.ask("/sdapi/v1/%73d-models");
  expect([200, 400, 404]).toContain(answer.status);
  const twice = await door.ask("/sdapi/v1/%2573d-models");
  expect([400, 404]).toContain(twice.status);
});

test("a broken percent sequence gets 400 or 404", async () => {
  for (const target of [
    "/sdapi/v1/%",
    "/sdapi/v1/%zz",
    "/sdapi/v1/%ff%fe",
    "/%00",
    "/sdapi/v1/sd-models%00",
    "/v1/results/%ff",
  ]) {
    const answer = await door.ask(target);
    expect([400, 404], `${target}: ${answer.status}`).toContain(answer.status);
  }
});

describe("a path that no service lists gets 404 and reaches no card:", () => {
  const UNLISTED: [method: string, target: string][] = [
    ["GET", "/sdapi/v1/options"],
    ["POST", "/sdapi/v1/options"],
    ["POST", "/sdapi/v1/interrupt"],
    ["POST", "/sdapi/v1/skip"],
    ["GET", "/sdapi/v1/progress"],
    ["POST", "/sdapi/v1/server-kill"],
    ["POST", "/sdapi/v1/server-restart"],
    ["POST", "/sdapi/v1/server-stop"],
    ["GET", "/sdapi/v1/memory"],
    ["POST", "/sdapi/v1/reload-checkpoint"],
    ["POST", "/sdapi/v1/txt2img/x"],
    ["POST", "/sdapi/v1/txt2imgx"],
    ["POST", "/AIVoice/TTS/CosyVoice2/nothing"],
    ["POST", "/internal/progress"],
    ["GET", "/"],
    ["GET", "/v2/results"],
    ["GET", "/v1"],
  ];
  for (const [method, target] of UNLISTED) {
    test(`${method} ${target}`, async () => {
      const reached = door.park.cards.flatMap(({ card }) => door.park.heads(card)).length;
      const answer = await door.ask(target, { method, ...(method === "POST" ? { json: {} } : {}) });
      expect(refusalOf(answer)).toMatch(NOT_FOUND);
      expect(door.park.cards.flatMap(({ card }) => door.park.heads(card))).toHaveLength(reached);
    });
  }
});

const textOf = async (target: string, language: string) =>
  errorOf(await door.ask(target, { headers: { "accept-language": language }, key: null })).message;

test("the 404 of the root names the documentation in English and Chinese, and another 404 does not", async () => {
  expect(await textOf("/", "en")).toBe("There is nothing at this address. The API is described at /docs.");
  expect(await textOf("/?a=b", "zh")).toBe("此地址没有内容。API 说明见 /docs。");
  expect(await textOf("/v2", "en")).not.toContain("/docs");
});

describe("a method that a path does not accept gets 405 with Allow:", () => {
  const WRONG: [method: string, target: string, takes: string[]][] = [
    ["GET", "/sdapi/v1/txt2img", ["POST"]],
    ["PUT", "/sdapi/v1/txt2img", ["POST"]],
    ["DELETE", "/sdapi/v1/sd-models", ["GET"]],
    ["POST", "/sdapi/v1/sd-models", ["GET"]],
    ["GET", "/AIVoice/TTS/CosyVoice2/audio-generate", ["POST"]],
    ["GET", "/v1/fingerprint", ["POST"]],
    ["POST", "/v1/requests/any", ["GET"]],
    ["POST", "/v1/results/any", ["GET", "HEAD", "DELETE"]],
    ["PATCH", "/v1/results/any", ["GET", "HEAD", "DELETE"]],
    ["POST", "/health", ["GET"]],
    ["DELETE", "/cluster/status", ["GET"]],
  ];
  for (const [method, target, takes] of WRONG) {
    test(`${method} ${target}`, async () => {
      const answer = await door.ask(target, { method, ...(method === "POST" ? { json: {} } : {}) });
      expect(refusalOf(answer)).toMatch(/^405 method_not_allowed invalid_request_error/);
      expect(allowed(answer.header("allow"))).toEqual(expect.arrayContaining(takes));
      expect(allowed(answer.header("allow"))).not.toContain(method);
    });
  }
});

test("an admin path refuses a tenant's key for every method", async () => {
  for (const method of ["GET", "PUT", "POST", "PATCH", "DELETE"]) {
    for (const target of [
      "/admin/v1/services/portrait",
      "/admin/v1/tenants",
      "/admin/v1/leases",
      "/admin/v1/nothing",
    ]) {
      const answer = await door.ask(target, { method });
      expect(refusalOf(answer), `${method} ${target}`).toMatch(/^401 invalid_api_key authentication_error/);
    }
  }
});

test("a bad path without a key gets 400 or 401", async () => {
  const answer = await door.ask("/sdapi/v1/../sd-models", { key: null });
  expect(["bad_path", "missing"]).toContain(errorOf(answer).reason);
  expect([400, 401]).toContain(answer.status);
});

test("an odd target or an unsupported method gets a 4xx and reaches no card", async () => {
  const { host } = new URL(door.portico.url);
  const reached = door.park.cards.flatMap(({ card }) => door.park.heads(card)).length;
  const odd: [method: string, target: string][] = [
    ["GET", "http://203.0.113.1/sdapi/v1/nothing"],
    ["GET", `http://${host}/sdapi/v1/nothing`],
    ["GET", "/sdapi/v1/sd-models;a=b"],
    ["GET", "/sdapi/v1/sd-models&a=b"],
    ["GET", "/sdapi/v1/*"],
    ["GET", `/${"a".repeat(8_000)}`],
    ["TRACE", "/sdapi/v1/sd-models"],
    ["PROPFIND", "/sdapi/v1/sd-models"],
  ];
  for (const [method, target] of odd) {
    const { status } = await door.ask(target, { method });
    expect(status, `${method} ${target}`).toBeGreaterThanOrEqual(400);
    expect(status, `${method} ${target}`).toBeLessThan(500);
  }
  expect(door.park.cards.flatMap(({ card }) => door.park.heads(card))).toHaveLength(reached);
});
