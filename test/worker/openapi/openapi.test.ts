import { expect, test } from "vitest";
import app from "../../../worker/index.ts";
import { openApiDocument } from "../../../worker/openapi/index.ts";

/** What is registered with a method of its own; `ALL` answers 405 and 404, and service routes are described generically. */
function registered(): Set<string> {
  const own = app.routes.filter((route) => route.method !== "ALL");
  return new Set(own.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`));
}

function documented(): Set<string> {
  const paths = Object.entries(openApiDocument().paths ?? {}).filter(([path]) => path !== "/{route}/{path}");
  return new Set(paths.flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)));
}

test("what is registered is documented, and what is documented is registered", () => {
  expect(registered().size).toBeGreaterThan(30);
  expect([...documented()].toSorted()).toEqual([...registered()].toSorted());
});

test("the document is made once", () => {
  expect(openApiDocument()).toBe(openApiDocument());
});
