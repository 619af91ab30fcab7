/** Source rules that DESIGN.md states: which files may import which, and which files may use which binding. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../..");

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = `${folder}/${name}`;
    if (statSync(join(ROOT, path)).isDirectory()) return sources(path);
    return name.endsWith(".ts") ? [path] : [];
  });
}

const text = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** Relative imports as paths from the root, with type-only imports marked. */
function imports(path: string): { to: string; typeOnly: boolean }[] {
  return [...text(path).matchAll(/^(import|export) (type )?[^;]*?from "(\.[^"]+)";/gm)].map(([, , type, to = ""]) => ({
    to: relative(ROOT, join(ROOT, path, "..", to)),
    typeOnly: type !== undefined,
  }));
}

const worker = sources("worker");
const objects = sources("durable-objects");

/** The stages of a request, in order. */
const STAGES = ["auth", "ask", "fingerprint", "cache", "limits", "dispatch", "origin", "store"].map(
  (name) => `worker/${name}.ts`,
);
/** Stages whose values other stages may import. */
const SHARED = /worker\/(ask|origin|fingerprint|cache)\.ts$/;

test("objects never import from the Worker", () => {
  const wrong = objects.flatMap((path) => imports(path).filter(({ to }) => !to.startsWith("durable-objects/")));
  expect(wrong).toEqual([]);
});

/** Helpers that the objects and the Worker share. */
const HELPERS = /\/(timeout|json-pointer)\.ts$/;

test("apart from index.ts and env.ts, the Worker imports only protocols and shared helpers of the objects", () => {
  const wrong = worker
    .filter((path) => path !== "worker/index.ts" && path !== "worker/env.ts")
    .flatMap((path) =>
      imports(path).filter(
        ({ to }) => to.startsWith("durable-objects/") && !/\/([a-z]+-)?protocol\.ts$/.test(to) && !HELPERS.test(to),
      ),
    );
  expect(wrong).toEqual([]);
});

test("stages do not import each other, except for shared values", () => {
  const wrong = STAGES.flatMap((path) =>
    imports(path)
      .filter(({ to, typeOnly }) => STAGES.includes(to) && !typeOnly && !SHARED.test(to))
      .map(({ to }) => `${path} -> ${to}`),
  );
  expect(wrong).toEqual([]);
});

test("the objects' pure files import no runtime", () => {
  const pure = [
    "slots",
    "breaker",
    "waiting-room",
    "choose-card",
    "card-order",
    "shared-runs",
    "estimate",
    "desk",
    "job-state",
    "rate",
    "delivery-schedule",
    "secret-generations",
  ].map((name) => `durable-objects/${name}.ts`);
  expect(pure.filter((path) => /from "(cloudflare|node):/.test(text(path)))).toEqual([]);
});

test("only worker/db queries D1", () => {
  const outside = worker.filter((path) => !path.startsWith("worker/db/"));
  expect(outside.filter((path) => /\benv\.DB\b|drizzle-orm/.test(text(path)))).toEqual([]);
});

test("only env.ts reads variables and secrets", () => {
  const wrong = worker
    .filter((path) => path !== "worker/env.ts")
    .filter((path) => /env\.(LOCAL_MODE|PUBLIC_URL|KEY_SECRET|ADMIN_TOKEN|URL_KEYS|ACCESS_)/.test(text(path)));
  expect(wrong).toEqual([]);
});

test("the npm commands in the README exist", () => {
  const { scripts } = JSON.parse(text("package.json")) as { scripts: Record<string, string> };
  const named = [...text("README.md").matchAll(/npm (?:run )?(start|test|[a-z]+:[a-z]+|check)\b/g)].map(
    ([, name = ""]) => name,
  );
  expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
});
