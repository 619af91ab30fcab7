/** Turns a log line of the Worker into a sentence for the terminal. The log file keeps the line as it is. */

type Line = Record<string, unknown>;

/** What a person in front of the terminal can act on: what happened to what, and what to do. */
const SENTENCES: Record<string, (line: Line) => string> = {
  origin_lost: ({ card }) =>
    `Card ${String(card)} closed the connection before it answered. Check that its server is running, and see its log.`,
  webhook_given_up: ({ delivery, tries }) =>
    `Webhook ${String(delivery)} was given up after ${String(tries)} attempts. Check the receiver, then replay it.`,
  store_failed: ({ request, error }) =>
    `The answer of request ${String(request)} could not be stored (${String(error)}). Check the disk's free space.`,
};

export function readable(message: string): string {
  const line = lineOf(message);
  if (line === null) return message;
  const { event, stack: _stack, ...facts } = line;
  const sentence = SENTENCES[String(event)]?.(line);
  return sentence ?? `${String(event).replaceAll("_", " ")} (${Object.entries(facts).map(shown).join(", ")})`;
}

function lineOf(message: string): Line | null {
  try {
    const value: unknown = JSON.parse(message);
    return typeof value === "object" && value !== null && "event" in value ? { ...value } : null;
  } catch {
    return null;
  }
}

const shown = ([name, value]: [string, unknown]): string =>
  `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`;
