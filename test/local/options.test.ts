import { resolve } from "node:path";
import { expect, test } from "vitest";
import { isLoopback, readOptions, UsageError, urlOf } from "../../local/options.ts";

test("without arguments it is 127.0.0.1:8787 with simulated cards and .portico", () => {
  expect(readOptions([], {})).toEqual({
    host: "127.0.0.1",
    port: 8787,
    stateDir: resolve(".portico"),
    cards: true,
    fresh: false,
  });
});

test("PORT, HOST and STATE_DIR choose, empty ones count as not given", () => {
  expect(readOptions([], { PORT: "9000", HOST: "::1", STATE_DIR: "/state" })).toMatchObject({
    host: "::1",
    port: 9000,
    stateDir: "/state",
  });
  expect(readOptions([], { PORT: "", HOST: "", STATE_DIR: "" })).toMatchObject({ host: "127.0.0.1", port: 8787 });
});

test("--no-sim and --fresh may come together", () => {
  expect(readOptions(["--no-sim", "--fresh"], {})).toMatchObject({ cards: false, fresh: true });
});

test("an unknown option is refused with what there is", () => {
  expect(() => readOptions(["--no-sims"], {})).toThrow(UsageError);
  expect(() => readOptions(["--no-sims"], {})).toThrow(/--no-sims[^]*--no-sim /);
});

test("what is no port is refused", () => {
  for (const port of ["0", "65536", "80a", "-1", "1e3", "123456"]) {
    expect(() => readOptions([], { PORT: port }), port).toThrow(`PORT=${port} is not a port`);
  }
});

test("what is no host is refused", () => {
  expect(() => readOptions([], { HOST: "http://x/" })).toThrow("HOST=http://x/");
});

test("help asks for nothing else", () => {
  expect(readOptions(["--fresh", "--help"], { PORT: "wrong" })).toBe(null);
});

test("only addresses of this machine are loopback", () => {
  expect(["127.0.0.1", "127.9.9.9", "::1", "localhost"].map(isLoopback)).toEqual([true, true, true, true]);
  expect(["0.0.0.0", "::", "192.168.0.2", "127.0.0.1.example.com"].map(isLoopback)).toEqual([
    false,
    false,
    false,
    false,
  ]);
});

test("the address of a wildcard is reached on this machine", () => {
  expect([urlOf("0.0.0.0", 1), urlOf("::", 2), urlOf("::1", 3), urlOf("127.0.0.1", 4)]).toEqual([
    "http://127.0.0.1:1",
    "http://[::1]:2",
    "http://[::1]:3",
    "http://127.0.0.1:4",
  ]);
});
