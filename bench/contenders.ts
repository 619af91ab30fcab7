/** Who is measured side by side. */
import { bareWorker, portico } from "./doors.ts";
import { haproxy, nginx } from "./peers.ts";
import type { CardPlace } from "./cards.ts";
import type { Target } from "./users.ts";

/** What cases a contender is measured in. */
export type Part = "all" | "bound" | "closed" | "hang-up";

export interface Contender {
  name: string;
  title: string;
  /** `bound`: users are tied to a card each, two to a card; there is nobody who chooses. */
  part: Part;
  /** Takes its place beside the others in the figures of one caller. */
  alone: boolean;
  /** Refused users send again at once. */
  isHasty: boolean;
  /** Begins every case as a new process. */
  isRenewed: boolean;
  /** How long it is watched after a kill -9, ms: until it must be back, and somewhat longer. */
  recoveryMs: number;
  /** Null: it can be opened; else how to install what is missing. */
  missing: () => string | null;
  open: (cards: readonly CardPlace[]) => Promise<Door>;
}

export interface Door {
  target: (user: number) => Target;
  /** kill -9, and a start on the same port with the same state; resolves when it takes connections. */
  restart: () => Promise<void>;
  close: () => Promise<void>;
}

/** No door at all: the users know the cards, as nobody's callers should. */
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
