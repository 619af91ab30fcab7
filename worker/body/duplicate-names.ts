/** Detects JSON objects with duplicate names: RFC 7493 2.3 forbids them, and parsers disagree on the value. Pure. */

/** `value`: what `JSON.parse` returned for the text. It has fewer members than the text if a name is duplicated. */
export function hasDuplicateNames(json: string, value: unknown): boolean {
  return membersIn(json) !== membersOf(value);
}

/** Counts the members in JSON text: outside of strings, a colon always separates a name from a value. */
function membersIn(json: string): number {
  let members = 0;
  for (let at = 0; at < json.length; at++) {
    if (json[at] === '"') at = stringEnd(json, at + 1);
    else if (json[at] === ":") members++;
  }
  return members;
}

/** Finds the end of a string with `indexOf`: long strings are images, too slow to check character by character. */
function stringEnd(json: string, from: number): number {
  let quote = json.indexOf('"', from);
  while (isEscaped(json, quote)) quote = json.indexOf('"', quote + 1);
  return quote;
}

function isEscaped(json: string, at: number): boolean {
  let escapes = 0;
  while (json[at - 1 - escapes] === "\\") escapes++;
  return escapes % 2 === 1;
}

/** Uses an explicit stack, because the nesting may be deeper than the call stack allows. */
function membersOf(value: unknown): number {
  let members = 0;
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next !== "object" || next === null) continue;
    const values: unknown[] = Object.values(next);
    if (!Array.isArray(next)) members += values.length;
    for (const each of values) left.push(each);
  }
  return members;
}
