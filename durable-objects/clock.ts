/** Time as the platform has it, handed to what decides by it. */
export interface Clock {
  /** ms of the epoch; may jump either way. */
  now(): number;
  /** Does not jump. Gives what calls it off. */
  after(ms: number, then: () => void): () => void;
}

export const CLOCK: Clock = {
  now: () => Date.now(),
  after(ms, then) {
    const timer = setTimeout(then, ms);
    return () => clearTimeout(timer);
  },
};
