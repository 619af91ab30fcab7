/**
 * Messages between objects. They wait in a bag until the test delivers one. Messages of one stream keep their order,
 * like calls on one stub; streams are independent of each other.
 */

/** What happens to a message: it is delivered, delivered twice, or lost (the sender may notice). */
export type Fate = "arrives" | "doubled" | "lost";

export interface Message {
  stream: string;
  arrive(): void;
  /** Called when the message is lost; without it the message cannot be lost. */
  lose?: () => void;
  /** Called when its stream is torn down. */
  broken?: () => void;
  /** Delivering it twice has the effect of once. */
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

  /** Tears down a stream. Returns the messages that were in it. */
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

  /** Delivers everything, in the order of sending. */
  settle(): void {
    while (this.#bag.length > 0) this.deliver(0, "arrives");
  }
}
