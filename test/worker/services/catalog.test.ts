import * as fc from "fast-check";
import { expect, test } from "vitest";
import { listed, serviceOf, target } from "../../../worker/services/catalog.ts";
import type { ServiceRow } from "../../../worker/db/queries.ts";
import { isRefusal } from "../../../worker/refusal.ts";
import { completeService } from "../../../worker/services/kinds.ts";
import type { Service } from "../../../worker/services/service.ts";

const ORIGIN = "https://portico.example";

function service(route: string, paths: Service["paths"], id = "own"): ServiceRow {
  return { id, route, paused: false, config: completeService({ kind: "http", route, paths }, null) } as ServiceRow;
}

/** The normalized path and query of a URL, or the reason of the refusal. */
function read(rest: string): string {
  const at = target(ORIGIN + rest);
  return isRefusal(at) ? at.reason : at.path + at.query;
}

function decision(own: ServiceRow, method: string, path: string): string {
  const at = target(ORIGIN + path);
  if (isRefusal(at)) return at.reason;
  const entry = listed(own, method, at.path);
  return isRefusal(entry) ? entry.reason : entry.as;
}

/** Characters that a segment may contain unescaped (RFC 3986 pchar), except the dot, which may not be escaped. */
const UNRESERVED = Array.from("abcXYZ019-_~");
const RESERVED = Array.from("!$&'()*+,;=:@");
const plain = fc.constantFrom(...UNRESERVED, ...RESERVED, "é", "生", " ", "%");
const segments = fc.array(fc.array(plain, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 });

const escape = (character: string, lower: boolean) => {
  const escaped = Array.from(
    new TextEncoder().encode(character),
    (byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`,
  ).join("");
  return lower ? escaped.toLowerCase() : escaped;
};

/** One spelling of a path: each character unescaped, where allowed, or escaped in either case. */
function spelled(path: string[][], choices: number[]): string {
  let i = 0;
  const one = (character: string) => {
    const choice = choices[i++ % choices.length] ?? 0;
    const mayStand = UNRESERVED.includes(character) || RESERVED.includes(character);
    return mayStand && choice === 0 ? character : escape(character, choice === 1);
  };
  return path.map((segment) => `/${segment.map(one).join("")}`).join("");
}

const choices = fc.array(fc.nat({ max: 2 }), { minLength: 7, maxLength: 7 });

test("normalizing a normalized path changes nothing, and the query never changes", () => {
  const property = fc.property(
    segments,
    choices,
    fc.constantFrom("", "?", "?a=%2f..//\\&b", "?%41"),
    (path, by, query) => {
      const once = read(spelled(path, by) + query);
      expect(once.endsWith(query)).toBe(true);
      expect(read(once)).toBe(once);
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});

test("all spellings of unreserved characters, escaped or not, are the same path", () => {
  const unreserved = fc.array(fc.array(fc.constantFrom(...UNRESERVED, "é", "生"), { minLength: 1, maxLength: 5 }), {
    minLength: 1,
    maxLength: 3,
  });
  const property = fc.property(unreserved, choices, choices, (path, one, other) => {
    expect(read(spelled(path, one))).toBe(read(spelled(path, other)));
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("all spellings of a path lead to the same decision", () => {
  const property = fc.property(
    segments,
    choices,
    choices,
    fc.constantFrom("whole", "start"),
    (path, one, other, kind) => {
      const written = path
        .map((segment) => segment.join(""))
        .join("/")
        .replaceAll("%", "_");
      const exact = kind === "whole" ? written : `${written.slice(0, 2)}*`;
      const own = service("/own/", [
        { method: "POST", path: exact, as: "run" },
        { method: "POST", path: "*", as: "read" },
      ]);
      const asked = [...path].map((segment) => segment.map((character) => (character === "%" ? "_" : character)));
      const decisions = [one, other].map((by) => decision(own, "POST", `/own${spelled(asked, by)}`));
      expect(decisions).toEqual(["run", "run"]);
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});

test("an escape is decoded once: an escaped escape is another path", () => {
  const own = service("/own/", [
    { method: "*", path: "a!b", as: "run" },
    { method: "*", path: "é", as: "run" },
  ]);
  expect(["a!b", "a%21b", "%c3%a9", "%C3%A9"].map((path) => decision(own, "GET", `/own/${path}`))).toEqual([
    "run",
    "run",
    "run",
    "run",
  ]);
  expect(["a%2521b", "%25C3%25A9", "%ff", "%c3", "%E9"].map((path) => decision(own, "GET", `/own/${path}`))).toEqual(
    Array(5).fill("not_found"),
  );
});

test("a path that two parsers could read differently is refused, wherever the ambiguity is", () => {
  const trap = fc.constantFrom(
    "//",
    "\\",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "%2e",
    "%2E%2e",
    "/./",
    "/../",
    "%00",
    "%0d%0A",
    "%1f",
    "%7f",
    "%z",
    "%4z",
    "%zz",
    " ",
    "\t",
    "\x7f",
    "\0",
  );
  const property = fc.property(segments, choices, trap, segments, (before, by, between, after) => {
    expect(read(spelled(before, by) + between + spelled(after, by).slice(1))).toBe("bad_path");
  });
  fc.assert(property, { numRuns: 1_000 });
  for (const path of ["/..", "/.", "/a/..", "/a/.", "/../a", "//", "/a//"]) expect(read(path), path).toBe("bad_path");
  for (const path of ["/...", "/a.b", "/.a", "/a..b", "/.well-known/x"]) expect(read(path), path).toBe(path);
});

test("a URL without a path asks for the root, and a fragment is ignored", () => {
  expect(["", "?a=1", "#x", "/a#x?y", "/a?b#c"].map(read)).toEqual(["/", "/?a=1", "/", "/a", "/a?b"]);
});

test("a path belongs to the service with the longest matching route", () => {
  const services = ["/a/b/c/", "/a/b/", "/a/", "/x/"].map((route) => service(route, [], route));
  const owner = (path: string) => serviceOf(services, path)?.id ?? null;
  expect(["/a/b/c/d", "/a/b/c", "/a/bc/d", "/a/", "/a", "/x/a/b/", "/A/b", "/"].map(owner)).toEqual([
    "/a/b/c/",
    "/a/b/",
    "/a/",
    "/a/",
    null,
    "/x/",
    null,
    null,
  ]);
});

test("a path matches by method, then by any method, HEAD by GET; otherwise 405 lists the methods", () => {
  const own = service("/own/", [
    { method: "GET", path: "models", as: "read" },
    { method: "POST", path: "models", as: "run" },
    { method: "*", path: "any*", as: "run" },
    { method: "GET", path: "anyone", as: "read" },
  ]);
  expect(["GET", "HEAD", "POST"].map((method) => decision(own, method, "/own/models"))).toEqual([
    "read",
    "read",
    "run",
  ]);
  expect(["GET", "HEAD", "DELETE"].map((method) => decision(own, method, "/own/anyone"))).toEqual([
    "read",
    "run",
    "run",
  ]);
  const refused = listed(own, "PUT", "/own/models");
  expect(isRefusal(refused) ? [refused.reason, refused.headers["allow"]] : refused).toEqual([
    "method_not_allowed",
    "GET, POST",
  ]);
  for (const path of ["/own/model", "/own/models/", "/own/modelss", "/own/Models", "/own/"])
    expect(decision(own, "GET", path), path).toBe("not_found");
});
