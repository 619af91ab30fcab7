import { resolve } from "node:path";
import { expect, test } from "vitest";
import { isLoopback, readOptions, UsageError, urlOf } from "../../local/options.ts";

test("the defaults are 127.0.0.1:8787, simulated cards and .portico", () => {
  expect(readOptions([], {})).toEqual({
    host: "127.0.0.1",
    port: 8787,
    stateDir: resolve(".portico"),
    cards: true,
    fresh: false,
  });
});

test("PORT, HOST and STATE_DIR are read, and empty values count as not given", () => {
  expect(readOptions([], { PORT: "9000", HOST: "::1", STATE_DIR: "/state" })).toMatchObject({
    host: "::1",
    port: 9000,
    stateDir: "/state",
  });
  expect(readOptions([], { PORT: "", HOST: "", STATE_DIR: "" })).toMatchObject({ host: "127.0.0.1", port: 8787 });
});

test("--no-sim and --fresh can be combined", () => {
  expect(readOptions(["--no-sim", "--fresh"], {})).toMatchObject({ cards: false, fresh: true });
});

test("an unknown option is refused with the list of options", () => {
  expect(() => readOptions(["--no-sims"], {})).toThrow(UsageError);
  expect(() => readOptions(["--no-sims"], {})).toThrow(/--no-sims[^]*--no-sim /);
});

test("an invalid port is refused", () => {
  for (const port of ["0", "65536", "80a", "-1", "1e3", "123456"]) {
    expect(() => readOptions([], { PORT: port }), port).toThrow(`PORT=${port} is not a port`);
  }
});

test("an invalid host is refused", () => {
  expect(() => readOptions([], { HOST: "http://x/" })).toThrow("HOST=http://x/");
});

test("--help ignores other options and variables", () => {
  expect(readOptions(["--fresh", "--help"], { PORT: "wrong" })).toBe(null);
});

test("only addresses of this machine count as loopback", () => {
  expect(["127.0.0.1", "127.9.9.9", "::1", "localhost"].map(isLoopback)).toEqual([true, true, true, true]);
  expect(["0.0.0.0", "::", "192.168.0.2", "127.0.0.1.example.com"].map(isLoopback)).toEqual([
    false,
    false,
    false,
    false,
  ]);
});

test("the URL of a wildcard host uses the loopback address", () => {
  expect([urlOf("0.0.0.0", 1), urlOf("::", 2), urlOf("::1", 3), urlOf("127.0.0.1", 4)]).toEqual([
    "http://127.0.0.1:1",
    "http://[::1]:2",
    "http://[::1]:3",
    "http://127.0.0.1:4",
  ]);
});
