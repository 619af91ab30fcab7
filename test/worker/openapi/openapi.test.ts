import { expect, test } from "vitest";
import pack from "../../../package.json" with { type: "json" };
import app from "../../../worker/index.ts";
import { openApiDocument } from "../../../worker/openapi/index.ts";

/**
 * Routes registered with a specific method; `ALL` answers 405 and 404, and service routes are described generically.
 */
function registered(): Set<string> {
  const own = app.routes.filter((route) => route.method !== "ALL");
  return new Set(own.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`));
}

function documented(): Set<string> {
  const paths = Object.entries(openApiDocument().paths ?? {}).filter(([path]) => path !== "/{route}/{path}");
  return new Set(paths.flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)));
}

test("registered and documented operations are the same", () => {
  expect(registered().size).toBeGreaterThan(30);
  expect([...documented()].toSorted()).toEqual([...registered()].toSorted());
});

test("the document is built once", () => {
  expect(openApiDocument()).toBe(openApiDocument());
});

interface Operation {
  security?: Record<string, string[]>[];
  parameters?: { name: string }[];
  responses: Record<string, unknown>;
}

/** Every operation by method and path, as the document is served. */
function operations(): [string, Operation][] {
  const { paths }: { paths: Record<string, Record<string, Operation>> } = JSON.parse(JSON.stringify(openApiDocument()));
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): [string, Operation] => [`${method} ${path}`, operation]),
  );
}

function takes({ parameters = [] }: Operation, name: string): boolean {
  return parameters.some((parameter) => parameter.name === name);
}

/** The operations that lack one of these statuses. A dialect may describe all of them at once, as `4XX`. */
function without(statuses: string[], which: (operation: Operation) => boolean): string[] {
  const chosen = operations().filter(([, operation]) => which(operation));
  expect(chosen.length).toBeGreaterThan(5);
  const lacks = ({ responses }: Operation) => !("4XX" in responses) && !statuses.every((status) => status in responses);
  return chosen.filter(([, operation]) => lacks(operation)).map(([name]) => name);
}

test("every operation that takes a tenant's key or an operator's token can answer 401 and 429", () => {
  const ways = ["tenantKey", "operatorToken"];
  const asksForOne = ({ security = [] }: Operation) => security.some((way) => ways.some((name) => name in way));
  expect(without(["401", "429"], asksForOne)).toEqual([]);
});

test("every operation that takes an Idempotency-Key can answer 409 and 422", () => {
  expect(without(["409", "422"], (operation) => takes(operation, "Idempotency-Key"))).toEqual([]);
});

test("every operation that takes Prefer can answer 202, or describes its answers in its dialect", () => {
  const prefers = operations().filter(([, operation]) => takes(operation, "Prefer"));
  const missing = prefers.filter(([, { responses }]) => !("202" in responses) && !("4XX" in responses));
  expect([prefers.length > 1, missing]).toEqual([true, []]);
});

test("the document has the version of the package", () => {
  expect(openApiDocument().info.version).toBe(pack.version);
});
