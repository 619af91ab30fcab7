/** The contenders of the side-by-side benchmark. */
import { bareWorker, portico } from "./doors.ts";
import { haproxy, nginx } from "./peers.ts";
import type { CardPlace } from "./cards.ts";
import type { Target } from "./users.ts";

/** The cases in which a contender is measured. */
export type Part = "all" | "bound" | "closed" | "hang-up";

export interface Contender {
  name: string;
  title: string;
  /** `bound`: users are assigned to cards, two to a card; nothing distributes the requests. */
  part: Part;
  /** Also measured with a single caller. */
  alone: boolean;
  /** Refused users retry at once. */
  isHasty: boolean;
  /** Starts every case as a new process. */
  isRenewed: boolean;
  /** How long it is observed after a kill -9, ms: its expected recovery time and some margin. */
  recoveryMs: number;
  /** Null: it can be started; otherwise how to install it. */
  missing: () => string | null;
  open: (cards: readonly CardPlace[]) => Promise<Door>;
}

export interface Door {
  target: (user: number) => Target;
  /** kill -9, then a start on the same port with the same state; resolves when it accepts connections. */
  restart: () => Promise<void>;
  close: () => Promise<void>;
}

/** No proxy at all: the users connect to the cards directly, which real callers should not do. */
const direct: Contender = {
  name: "direct",
  title: "cards alone",
  part: "bound",
  alone: true,
  isHasty: false,
  isRenewed: false,
  recoveryMs: 0,
  missing: () => null,
  open: async (cards) => ({
    target: (user) => ({ port: cards[user % cards.length]?.port ?? 0, headers: {} }),
    restart: () => Promise.reject(new Error("there is no door to restart")),
    close: async () => {},
  }),
};

/** In the order of the tables. */
export const CONTENDERS: readonly Contender[] = [
  direct,
  bareWorker,
  portico,
  haproxy({ name: "haproxy", title: "HAProxy", part: "all", alone: true, abortonclose: false }),
  haproxy({ name: "haproxy-abort", title: "HAProxy, abortonclose", part: "hang-up", alone: false, abortonclose: true }),
  nginx({ name: "nginx", title: "nginx", part: "all", alone: true, isHasty: false }),
  nginx({ name: "nginx-hasty", title: "nginx, retried at once", part: "closed", alone: false, isHasty: true }),
];
