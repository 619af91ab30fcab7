/** The R2 key and the metadata of a stored answer. */

/** `scope`: the tenant, or `shared`. */
export const answerKey = (scope: string, fingerprint: string) => `${scope}/answers/${fingerprint}`;

/** Metadata stored with the answer's bytes, in R2 and at the edge. */
export interface AnswerMeta {
  status: string;
  results: string;
  storedAt: string;
  expiresAt: string;
  /** How long the answer is kept. After `expiresAt` only its maker can get it. */
  keptUntil: string;
  /** The tenant whose request made it. */
  maker: string;
  service: string;
  /** The service's `model_version`, if it had one. */
  model?: string;
  /** The origin's headers that callers get, as JSON pairs. */
  headers: string;
  /** R2 key of the result that holds the answer's bytes, if they are too large to store twice; otherwise absent. */
  bulk?: string;
}
