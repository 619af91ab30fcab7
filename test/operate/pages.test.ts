import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { frontDoor } from "../admin/front-door.ts";

const door = frontDoor();

interface Operation {
  operationId: string;
  summary: string;
  parameters?: { in: string; name: string }[];
  responses: Record<string, unknown>;
}

interface Schema {
  required?: string[];
  enum?: string[];
  properties?: Record<string, Schema>;
}

interface Doc {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  webhooks: Record<string, unknown>;
  components: { schemas: Record<string, Schema>; securitySchemes: Record<string, unknown> };
  "x-reasons": { reason: string }[];
}

async function document(): Promise<Doc> {
  const doc: Doc = JSON.parse((await get("/openapi.json")).text);
  return doc;
}

/** Every operation with its path and method. */
const operations = (doc: Doc) =>
  Object.entries(doc.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );

const get = (path: string, headers: Record<string, string> = {}) =>
  door.ask("GET", path, undefined, { token: null, headers });

test("/health answers without authentication", async () => {
  for (const token of [null, "nonsense"]) {
    const { status, text, headers } = await door.ask("GET", "/health", undefined, { token });
    expect([status, text]).toEqual([200, "healthy\n"]);
    expect(headers.get("content-type")).toContain("text/plain");
    expect(headers.get("cache-control")).toBe("no-store");
  }
  expect((await door.ask("HEAD", "/health")).status).toBe(200);
  const { status, headers } = await door.ask("POST", "/health");
  expect([status, headers.get("allow")]).toEqual([405, "GET, HEAD"]);
});

test("a working deployment is ready", async () => {
  const { status, json } = await get("/ready");
  expect([status, json]).toEqual([200, { status: "ready", reasons: [] }]);
});

test("the document is OpenAPI 3.1, and all its references resolve", async () => {
  const { status, headers, text } = await get("/openapi.json");
  expect(status).toBe(200);
  expect(headers.get("content-type")).toBe("application/json");
  const doc: Doc = JSON.parse(text);
  expect(doc.openapi).toMatch(/^3\.1\.\d+$/);
  const references = [...text.matchAll(/"\$ref":"#\/([^"]+)"/g)].map((match) => match[1] ?? "");
  expect(references.length).toBeGreaterThan(50);
  for (const reference of references) expect(doc, reference).toHaveProperty(reference.split("/"));
});

test("every operation has a unique id, its path's parameters, a success status and a summary", async () => {
  const names = new Set<string>();
  for (const { path, method, operation } of operations(await document())) {
    const at = `${method} ${path}`;
    expect(names, at).not.toContain(operation.operationId);
    names.add(operation.operationId);
    const inPath = (operation.parameters ?? [])
      .filter((parameter) => parameter.in === "path")
      .map((parameter) => `{${parameter.name}}`);
    expect(inPath, at).toEqual(path.match(/\{\w+\}/g) ?? []);
    expect(
      Object.keys(operation.responses).some((status) => status.startsWith("2")),
      at,
    ).toBe(true);
    expect(operation.summary, at).toBeTruthy();
  }
  expect(names.size).toBeGreaterThan(30);
});

test("the document's schemas match what the admin API does", async () => {
  const { schemas } = (await document()).components;
  expect(schemas["ServicePut"]).toMatchObject({
    additionalProperties: false,
    properties: { queue: { properties: { max: { maximum: 1_000_000 } } } },
  });
  expect(await door.refusal("PUT", "/services/x", { kind: "http", route: "/x/", queue: { max: 1_000_001 } })).toBe(
    "400 invalid_field queue.max",
  );
  const made = await door.done("PUT", "/services/x", { kind: "http", route: "/x/" });
  expect(Object.keys(made).toSorted()).toEqual(schemas["ServiceView"]?.required?.toSorted());
});

test("the document lists every reason of a refusal", async () => {
  const doc = await document();
  const listed = doc["x-reasons"].map((row) => row.reason);
  expect(doc.components.schemas["Error"]?.properties?.["error"]?.properties?.["reason"]?.enum).toEqual(listed);
  expect(listed).toEqual(expect.arrayContaining(["missing", "invalid_field", "queue_full", "not_cached", "role"]));
});

test("the docs page refers to nothing outside this host and runs no script", async () => {
  const { status, headers, text } = await get("/docs");
  expect(status).toBe(200);
  expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(text).not.toMatch(/\w:\/\/|"\/\/|<script|<iframe|<img|<link|@import|url\(|\son\w+=|javascript:|style="/i);
  const [, style = ""] = /<style>([^]*)<\/style>/.exec(text) ?? [];
  const hash = createHash("sha256").update(style).digest("base64");
  const policy = headers.get("content-security-policy") ?? "";
  expect(policy.split("; ").slice(0, 2)).toEqual(["default-src 'none'", `style-src 'sha256-${hash}'`]);
});

test("the docs page shows every operation of the document, and all its links resolve", async () => {
  const { text } = await get("/docs");
  const ids = [...text.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [, link] of text.matchAll(/href="#([^"]*)"/g)) expect(ids, link).toContain(link);
  for (const { path, method, operation } of operations(await document())) {
    const id = `${method} ${path}`
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .replaceAll(/^-|-$/g, "");
    expect(ids, id).toContain(id);
    const summary = operation.summary.replaceAll("'", "&#39;").replaceAll(/`([^`]*)`/g, "<code>$1</code>");
    expect(text, id).toContain(summary);
  }
});

/** Text of one operation on the docs page, without tags. */
async function articleOf(id: string): Promise<string> {
  const { text } = await get("/docs");
  const [, article = ""] = new RegExp(`<article id="${id}">([^]*?)</article>`).exec(text) ?? [];
  return article
    .replaceAll(/<[^>]*>/g, " ")
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll(/[ \n]+/g, " ");
}

test("the docs page shows no backticks and no internal names of credentials", async () => {
  const { text } = await get("/docs");
  expect(text).not.toContain("`");
  for (const name of Object.keys((await document()).components.securitySchemes)) expect(text).not.toContain(name);
  expect(await articleOf("get-admin-v1-cards")).toContain("an operator's token, or an assertion of Cloudflare Access");
});

test("curl examples send the content type that the operation takes", async () => {
  expect(await articleOf("post-v1-jobs")).toContain('-H "Content-Type: application/json" \\ -d @body.json');
  const edit = await articleOf("post-v1-images-edits");
  expect(edit).toContain('-F "image=@file"');
  expect(edit).not.toContain('application/json" \\');
  expect(await articleOf("post-route-path")).toContain('-H "Content-Type: $TYPE" \\ --data-binary @body');
  expect(await articleOf("put-fal-files-id")).toMatch(/curl -X PUT "\$SIGNED_URL" \\ -H "Content-Type: \$TYPE"/);
  expect(await articleOf("get-v1-jobs")).toMatch(/curl -X GET "\$PORTICO\/v1\/jobs" \\ -H "Authorization: [^"]*" $/);
});

test("the docs page shows the webhooks, with what a receiver gets and may answer", async () => {
  const { webhooks } = await document();
  expect(Object.keys(webhooks)).toEqual(["jobEnded", "batchEnded"]);
  const shown = await articleOf("post-jobended");
  for (const part of ["Sent to the URL", "webhook-signature", "application/json", "job.succeeded", "410"])
    expect(shown).toContain(part);
  expect(shown).not.toContain("curl");
  expect(await articleOf("post-batchended")).toContain("batch.finished");
});

test("the docs page is well-formed: every opened element is closed", async () => {
  const { text } = await get("/docs");
  const open: string[] = [];
  for (const [, end, name = ""] of text.matchAll(/<(\/?)([a-z][a-z0-9]*)\b[^>]*>/g)) {
    if (name === "meta") continue;
    if (end === "") open.push(name);
    else expect(open.pop()).toBe(name);
  }
  expect(open).toEqual([]);
});
