/** JSON in which an object says a name twice: RFC 7493 2.3 forbids it, and readers differ in which value they take. Pure. */

/** `value`: what `JSON.parse` made of the text. */
export function saysNameTwice(json: string, value: unknown): boolean {
  return membersIn(json) !== membersOf(value);
}

/** Members that a JSON text says: outside of strings a colon stands for nothing else. */
function membersIn(json: string): number {
  let members = 0;
  for (let at = 0; at < json.length; at++) {
    if (json[at] === '"') at = stringEnd(json, at + 1);
    else if (json[at] === ":") members++;
  }
  return members;
}

/** Where a string ends: long ones are images, so they are not looked at character by character. */
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

/** On a list of its own: what is nested beyond the stack is for others to refuse. */
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
