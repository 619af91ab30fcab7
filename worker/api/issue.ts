/** Converts a schema's issue to one of our details, so that no text comes from the library. Pure. */
import type { z } from "zod";
import { type Detail, detail, isDetailKey, type PlainKey } from "../details.ts";

type Issue = z.core.$ZodIssue;
type Bounded = z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig;

const TYPES: Partial<Record<string, PlainKey>> = {
  string: "string",
  number: "number",
  int: "integer",
  boolean: "boolean",
  array: "array",
  tuple: "array",
  object: "object",
  record: "object",
};

export function detailOf(issue: Issue): Detail {
  // A schema names a detail in place of its error message, or in `params` if the detail has facts.
  if (issue.code === "custom" && isDetail(issue.params)) return issue.params;
  if (isDetailKey(issue.message)) return { detail: issue.message };
  switch (issue.code) {
    case "invalid_type":
      return detail(TYPES[issue.expected] ?? "not_valid");
    case "too_small":
    case "too_big":
      return boundOf(issue);
    case "invalid_value":
      return detail("one_of", { values: issue.values.map(String).join(", ") });
    case "not_multiple_of":
      return detail("multiple_of", { step: issue.divisor });
    case "unrecognized_keys":
      return detail("unknown_field");
    case "invalid_format":
      return detail(issue.format === "datetime" ? "time" : issue.format === "url" ? "url" : "not_valid");
    // A record has a member whose name is invalid.
    case "invalid_key":
      return issue.issues[0] === undefined ? detail("not_valid") : detailOf(issue.issues[0]);
    default:
      return detail("not_valid");
  }
}

function isDetail(params: object | undefined): params is Detail {
  return params !== undefined && "detail" in params && isDetailKey(params.detail);
}

function boundOf(issue: Bounded): Detail {
  const { origin, inclusive = true } = issue;
  if (issue.code === "too_small") {
    const min = Number(issue.minimum);
    if (origin === "string") return min === 1 ? detail("not_empty") : detail("characters_at_least", { min });
    if (origin === "array") return min === 1 ? detail("not_empty") : detail("elements_at_least", { min });
    return detail(inclusive ? "at_least" : "greater_than", { min });
  }
  const max = Number(issue.maximum);
  if (origin === "string") return detail("characters_at_most", { max });
  if (origin === "array") return detail("elements_at_most", { max });
  return detail(inclusive ? "at_most" : "less_than", { max });
}
