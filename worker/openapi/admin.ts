/** The admin API in the OpenAPI document, built from the table that serves it. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { adminRoutes } from "../admin/index.ts";
import type { Route } from "../admin/route.ts";
import { CARD_TOKEN, COMMON_HEADERS, errors, OPERATOR, TABLE } from "./parts.ts";

export function adminPaths(): ZodOpenApiPathsObject {
  const paths: ZodOpenApiPathsObject = {};
  for (const row of adminRoutes) {
    const path = `/admin${row.path}`;
    paths[path] = { ...paths[path], [row.method.toLowerCase()]: operation(row) };
  }
  return paths;
}

function operation(row: Route): ZodOpenApiOperationObject {
  const names = [...row.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
  const role = row.role === "card" ? "" : `Needs the role \`${row.role}\`.`;
  const answers = Object.entries(row.answers).map(([status, { description, schema, csv }]) => [
    status,
    {
      description,
      headers: COMMON_HEADERS,
      ...(schema === null ? {} : { content: { "application/json": { schema }, ...(csv === true ? TABLE : {}) } }),
    },
  ]);
  return {
    operationId: operationId(row),
    tags: [row.tag],
    summary: row.summary,
    description: [row.description, role].filter(Boolean).join(" "),
    security: row.role === "card" ? CARD_TOKEN : OPERATOR,
    requestParams: {
      ...(names.length === 0 ? {} : { path: z.object(Object.fromEntries(names.map((name) => [name, z.string()]))) }),
      ...(row.query === undefined ? {} : { query: row.query }),
    },
    ...(row.body === undefined
      ? {}
      : { requestBody: { required: row.method !== "POST", content: { "application/json": { schema: row.body } } } }),
    responses: { ...Object.fromEntries(answers), ...errors(...statuses(row, names)) },
  };
}

/** For example `PUT /v1/services/{id}/cards/{card}` is `putServicesByIdCardsByCard`. */
function operationId({ method, path }: Route): string {
  const words = path.split("/").filter((word) => word !== "" && word !== "v1");
  const named = words.map(
    (word) => (word.startsWith("{") ? "By" : "") + word.replace(/\W/g, "").replace(/^./, (c) => c.toUpperCase()),
  );
  return method.toLowerCase() + named.join("");
}

function statuses({ method, role, body, query }: Route, names: string[]): number[] {
  return [
    ...(body !== undefined || query !== undefined || names.length > 0 ? [400] : []),
    401,
    403,
    ...(names.length > 0 ? [404] : []),
    ...(method === "GET" ? [] : [409]),
    ...(body === undefined ? [] : [413, 415]),
    ...(role === "card" ? [] : [429]),
    500,
  ];
}
