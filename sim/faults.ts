/**
 * The faults that a card can have, and which requests they affect. Pure except for random numbers.
 *
 * At the listener: refuse, flap. Before the card (no run starts): tunnel_down, access_denied, redirect. Before the body
 * is read (a run starts and fails at once): status, not_json, reset at the start, hang. During or after the run: slow,
 * reset, status at the end, and all faults that damage the answer's bytes.
 */
import { z } from "zod";

const common = {
  /** How many requests the fault affects before it is removed. */
  times: z.int().min(1).optional(),
  /** Only requests whose path contains one of these. */
  paths: z.array(z.string().min(1)).min(1).optional(),
  probability: z.number().gt(0).max(1).optional(),
};
const milliseconds = z.number().min(0).max(3_600_000);
const share = z.number().min(0).max(1);

export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("status"),
    status: z.int().min(200).max(599).default(500),
    body: z.string().optional(),
    at: z.enum(["start", "end"]).default("start"),
    ...common,
  }),
  /** `kill` also cuts open connections and ends the runs, as a dying process does. */
  z.strictObject({ kind: z.literal("refuse"), kill: z.boolean().default(false) }),
  z.strictObject({
    kind: z.literal("flap"),
    up_ms: milliseconds.min(20),
    down_ms: milliseconds.min(20),
    kill: z.boolean().default(false),
  }),
  /** `goes_on`: only the connection breaks, the GPU keeps working. */
  z.strictObject({
    kind: z.literal("reset"),
    at: z.enum(["start", "after", "body"]).default("start"),
    after_ms: milliseconds.default(50),
    fraction: share.default(0.5),
    goes_on: z.boolean().default(false),
    ...common,
  }),
  /** The slot is busy until the caller leaves, or for `busy_ms` in any case. */
  z.strictObject({ kind: z.literal("hang"), busy_ms: milliseconds.optional(), ...common }),
  z.strictObject({ kind: z.literal("slow"), factor: z.number().gt(0).max(10_000), ...common }),
  z.strictObject({
    kind: z.literal("trickle"),
    bytes_per_s: z.number().min(1).default(1_000),
    ...common,
  }),
  /**
   * length: fewer bytes than Content-Length; chunked: no last chunk; content: complete HTTP, but the content is cut.
   */
  z.strictObject({
    kind: z.literal("truncate"),
    how: z.enum(["length", "chunked", "content"]).default("length"),
    fraction: share.default(0.5),
    ...common,
  }),
  z.strictObject({ kind: z.literal("not_json"), body: z.string().optional(), ...common }),
  z.strictObject({
    kind: z.literal("bad_image"),
    how: z.enum(["bytes", "base64", "cut", "none"]).default("bytes"),
    ...common,
  }),
  z.strictObject({
    kind: z.literal("huge_header"),
    bytes: z.int().min(1).max(1_048_576).default(71_680),
    ...common,
  }),
  z.strictObject({ kind: z.literal("tunnel_down"), ...common }),
  z.strictObject({
    kind: z.literal("access_denied"),
    strict: z.boolean().default(false),
    status: z.union([z.literal(401), z.literal(403)]).default(403),
    ...common,
  }),
  z.strictObject({
    kind: z.literal("redirect"),
    status: z.union([z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)]).default(307),
    location: z.string().min(1).default("/elsewhere"),
    ...common,
  }),
  /** Sends nothing after a part of the answer: for `ms`, or until the caller leaves. The slot stays busy. */
  z.strictObject({
    kind: z.literal("stall"),
    fraction: share.default(0.3),
    ms: milliseconds.optional(),
    ...common,
  }),
]);
export type Fault = z.output<typeof faultSchema>;
export type FaultInput = z.input<typeof faultSchema>;

/** The faults after which a finished run counts as failed. */
const SPOILING: ReadonlySet<Fault["kind"]> = new Set(["truncate", "bad_image", "huge_header", "stall"]);

export function spoils(fault: Fault | null): boolean {
  if (fault === null) return false;
  return SPOILING.has(fault.kind) || (fault.kind === "reset" && fault.at === "body" && !fault.goes_on);
}

/** A card's current fault; it has one at a time. */
export class FaultState {
  #fault: Fault | null = null;
  #left = Infinity;

  get fault(): Fault | null {
    return this.#fault;
  }

  set(fault: Fault | null): void {
    this.#fault = fault;
    this.#left = (fault && "times" in fault ? fault.times : undefined) ?? Infinity;
  }

  /** Returns the fault for a request to `path`, or null, and uses up one of its `times`. */
  take(path: string): Fault | null {
    const fault = this.#fault;
    if (!fault || fault.kind === "refuse" || fault.kind === "flap") return null;
    if (fault.paths && !fault.paths.some((part) => path.includes(part))) return null;
    if (fault.probability !== undefined && Math.random() >= fault.probability) return null;
    this.#left -= 1;
    if (this.#left <= 0) this.#fault = null;
    return fault;
  }
}
