/** An expected failure: only its message is shown. */
export class GroundError extends Error {}
