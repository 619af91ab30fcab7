/** Renders the OpenAPI document as a page: no scripts, nothing from other hosts, readable on a phone. */
import { html, raw } from "hono/html";
import { openApiDocument } from "../openapi/index.ts";
import {
  type Answer,
  type Doc,
  field,
  fields,
  type Html,
  type Operation,
  prose,
  resolve,
  typeOf,
} from "./docs-fields.ts";
import { STYLE } from "./docs-style.ts";

const WHO: Record<string, string> = {
  tenantKey: "a tenant's key",
  apiKey: "X-API-Key",
  operatorToken: "an operator's token",
  accessAssertion: "an assertion of Cloudflare Access",
  cardToken: "the card's own token",
  signedUrl: "a signed URL",
};

interface Call {
  id: string;
  method: string;
  /** Null for a webhook: its address is the receiver's. */
  path: string | null;
  operation: Operation;
}

let made: { page: string; policy: string } | undefined;

export async function docsPage(): Promise<Response> {
  if (made === undefined) {
    // Through JSON, so that the page shows exactly what `/openapi.json` returns.
    const doc: Doc = JSON.parse(JSON.stringify(openApiDocument()));
    made = { page: String(await render(doc)), policy: await policy() };
  }
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": made.policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
  };
  return new Response(made.page, { headers });
}

/** Content-Security-Policy that allows only this page's own style sheet, by its hash. */
async function policy(): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(STYLE));
  return `default-src 'none'; style-src 'sha256-${new Uint8Array(digest).toBase64()}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

function render(doc: Doc): Html {
  const calls = [...callsIn(doc.paths, (path) => path), ...callsIn(doc.webhooks, () => null)];
  const sections = doc.tags.map((tag) => ({
    ...tag,
    calls: calls.filter((call) => call.operation.tags.includes(tag.name)),
  }));
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${doc.info.title} API</title>
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <nav aria-label="Contents">
          <ul>
            <li><a class="brand" href="#top">${doc.info.title}</a></li>
            ${sections.map((section) => contents(section.name, section.calls))}
            <li><a href="#errors">Errors</a></li>
          </ul>
        </nav>
        <main id="top">
          ${intro(doc)}
          ${sections.map(
            (section) =>
              html`<h2 id="${slug(section.name)}">${section.name}</h2>
                <p class="lead">${prose(section.description ?? "")}</p>
                ${section.calls.map((call) => article(doc, call))}`,
          )}
          ${errorTable(doc)}
        </main>
      </body>
    </html>`;
}

function callsIn(paths: Doc["paths"], pathOf: (name: string) => Call["path"]): Call[] {
  return Object.entries(paths).flatMap(([name, item]) =>
    Object.entries(item).map(([method, operation]) => {
      return { id: slug(`${method} ${name}`), method, path: pathOf(name), operation };
    }),
  );
}

function contents(name: string, calls: Call[]): Html {
  const rows = calls.map(
    ({ id, method, operation }) =>
      html`<li>
        <a href="#${id}"><span class="method ${method}">${method}</span>${prose(operation.summary)}</a>
      </li>`,
  );
  return html`<li>
    <a href="#${slug(name)}">${name}</a>
    <ul>
      ${rows}
    </ul>
  </li>`;
}

function intro(doc: Doc): Html {
  const paragraphs = (doc.info.description ?? "").split("\n\n").map((text) => html`<p>${prose(text)}</p>`);
  const ways = Object.entries(doc.components.securitySchemes);
  return html`<h1>${doc.info.title} API</h1>
    <p class="lead">Version ${doc.info.version}. For programs: <a href="/openapi.json">openapi.json</a>.</p>
    ${paragraphs}
    <h2 id="credentials">Authentication</h2>
    <dl>
      ${ways.map(
        ([name, { description = "" }]) =>
          html`<dt>${WHO[name] ?? name}</dt>
            <dd>${prose(description)}</dd>`,
      )}
    </dl>`;
}

function article(doc: Doc, { id, method, path, operation }: Call): Html {
  const { summary, description, parameters = [], requestBody, responses } = operation;
  const [type, media] = Object.entries(requestBody?.content ?? {})[0] ?? [];
  const schema = media?.schema ?? {};
  return html`<article id="${id}">
    <h3><a class="anchor" href="#${id}">${prose(summary)}</a></h3>
    <div class="call">
      <span class="method ${method}">${method}</span><span class="path">${path ?? "the URL of the webhook"}</span>
    </div>
    <p class="who">${path === null ? "Sent to the URL that was given with the job or batch." : who(operation)}</p>
    ${description === undefined || description === "" ? "" : html`<p>${prose(description)}</p>`}
    ${
      parameters.length === 0
        ? ""
        : html`<h4>Parameters</h4>
            <ul class="fields">
              ${parameters.map((p) => field(doc, p.name, { ...p.schema, ...said(p.description, p.in) }, "sent", p.required))}
            </ul>`
    }
    ${
      type === undefined
        ? ""
        : html`<h4>Body</h4>
            <p class="limits">
              ${type}${requestBody?.required === true ? "" : ", may be left out"}; ${typeOf(doc, schema)}
            </p>
            ${fields(doc, schema, "sent")}`
    }
    <h4>Answers</h4>
    ${Object.entries(responses).map(([status, answer]) => answerOf(doc, status, answer))}
    ${
      path === null
        ? ""
        : html`<h4>Try it</h4>
            <pre>${example(doc, method, path, operation)}</pre>`
    }
  </article>`;
}

/** Prefixes a parameter's description with its location. */
function said(description: string | undefined, place: string): { description: string } {
  return { description: [`In the ${place}.`, description].filter(Boolean).join(" ") };
}

function who({ security = [] }: Operation): string {
  const ways = security.flatMap((way) => Object.keys(way)).map((name) => WHO[name] ?? name);
  return ways.length === 0 ? "No credential is needed." : `With ${ways.join(", or ")}.`;
}

function answerOf(doc: Doc, status: string, given: Answer): Html {
  const shared = given.$ref?.split("/").at(-1);
  const answer = shared === undefined ? given : (doc.components.responses[shared] ?? {});
  const [type, media] = Object.entries(answer.content ?? {})[0] ?? [];
  const kind = status.startsWith("2") ? "ok" : status.startsWith("3") ? "other" : "no";
  const summary = html`<span class="status ${kind}">${status}</span>${prose(answer.description ?? "")}`;
  if (kind === "no")
    return html`<details>
      <summary>${summary}</summary>
      <div class="inside"><a href="#errors">The error object</a></div>
    </details>`;
  const headers = Object.entries(answer.headers ?? {});
  return html`<details>
    <summary>${summary}</summary>
    <div class="inside">
      ${type === undefined ? html`<p class="limits">No body.</p>` : html`<p class="limits">${type}; ${typeOf(doc, media?.schema ?? {})}</p>`}
      ${fields(doc, media?.schema ?? {}, "got")}
      <h4>Headers</h4>
      <ul class="fields">
        ${headers.map(([name, { description = "" }]) => field(doc, name, { type: "string", description }, "got"))}
      </ul>
    </div>
  </details>`;
}

const TOKENS: Record<string, string> = { operatorToken: "$ADMIN_TOKEN", cardToken: "$CARD_TOKEN" };

function example(doc: Doc, method: string, path: string, { security = [], requestBody }: Operation): string {
  const [way] = Object.keys(security[0] ?? {});
  const isSigned = way === "signedUrl";
  const url = isSigned ? "$SIGNED_URL" : `$PORTICO${path}`;
  const lines = [`curl ${method === "head" ? "-I" : `-X ${method.toUpperCase()}`} "${url}"`];
  if (way !== undefined && !isSigned) lines.push(`-H "Authorization: Bearer ${TOKENS[way] ?? "$API_KEY"}"`);
  return [...lines, ...sending(doc, requestBody)].join(" \\\n  ");
}

/** curl's options for sending the operation's type of body. */
function sending(doc: Doc, body: Operation["requestBody"]): string[] {
  const [type, media] = Object.entries(body?.content ?? {})[0] ?? [];
  if (type === undefined) return [];
  if (type === "application/json") return [`-H "Content-Type: ${type}"`, "-d @body.json"];
  if (type !== "multipart/form-data") return ['-H "Content-Type: $TYPE"', "--data-binary @body"];
  const { properties = {}, required = [] } = resolve(doc, media?.schema ?? {});
  return required.map(
    (name) => `-F "${name}=${resolve(doc, properties[name] ?? {}).format === "binary" ? "@file" : "..."}"`,
  );
}

function errorTable(doc: Doc): Html {
  const rows = doc["x-reasons"].toSorted((a, b) => a.status - b.status);
  return html`<h2 id="errors">Errors</h2>
    <p class="lead">Every error has this body; <code>reason</code> says what went wrong.</p>
    <article>${fields(doc, doc.components.schemas["Error"] ?? {}, "got")}</article>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Status</th>
            <th>Code</th>
            <th>Reason</th>
            <th>Type</th>
            <th>Try again</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                <td>${row.status}</td>
                <td><code>${row.code}</code></td>
                <td><code>${row.reason}</code></td>
                <td>${row.type}</td>
                <td>${row.retryable ? "yes" : "no"}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}

function slug(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
}
