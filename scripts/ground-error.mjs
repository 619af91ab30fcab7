/** An expected failure: its message is all that the reader needs. */
export class GroundError extends Error {}
