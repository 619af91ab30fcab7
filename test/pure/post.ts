/**
 * Messages between objects: they lie in a bag until the test takes one out. Those of one stream keep their order, as
 * calls on one stub do; streams know nothing of each other.
 */

/** What becomes of a message: it arrives, it arrives twice, or never (the sender may notice). */
export type Fate = "arrives" | "doubled" | "lost";

export interface Message {
  stream: string;
  arrive(): void;
  /** What its loss means; without it the message cannot be lost. */
  lose?: () => void;
  /** What it means when its stream is torn down. */
  broken?: () => void;
  /** It means the same twice. */
  twice?: boolean;
}

export class Post {
  #bag: Message[] = [];

  get size(): number {
    return this.#bag.length;
  }

  send(message: Message): void {
    this.#bag.push(message);
  }

  /** A stream is torn down; gives everything that was in it. */
  cut(stream: string): Message[] {
    const cut = this.#bag.filter((message) => message.stream === stream);
    this.#bag = this.#bag.filter((message) => message.stream !== stream);
    return cut;
  }

  deliver(pick: number, fate: Fate): void {
    const seen = new Set<string>();
    const heads = this.#bag.filter(({ stream }) => !seen.has(stream) && seen.add(stream));
    const message = heads[pick % Math.max(1, heads.length)];
    if (message === undefined) return;
    this.#bag.splice(this.#bag.indexOf(message), 1);
    if (fate === "lost" && message.lose !== undefined) {
      message.lose();
      return;
    }
    message.arrive();
    if (fate === "doubled" && message.twice === true) message.arrive();
  }

  /** Everything arrives, in the order of sending. */
  settle(): void {
    while (this.#bag.length > 0) this.deliver(0, "arrives");
  }
}
