/**
 * Repeats the load with which an older stack was measured: 50 users who think for 5 s between two pictures, and 200 who
 * think for 27 s, as computed from its published figures. All parts run at the same time, each with its own cards, door
 * and users; together they are some 30 requests a second, which cost this machine hardly anything.
 *
 * A run takes as long as a picture of 1024 x 1024 with 8 steps, but the picture drawn is small: drawing a large one
 * takes 0.2 s of this machine's CPU, which in reality is the GPU server's.
 */
import { CardPark, type Timing } from "./cards.ts";
import type { Contender, Door } from "./contenders.ts";
import { figuresOf, mean, type CardsSeen } from "./figures.ts";
import { runCrowd, type Span } from "./users.ts";

const TIMING: Timing = { service_ms: 1_440, jitter: 0.2 };
/** One card cannot serve 200 users: their line grows for over a minute, until it reaches its limit of 60 s. */
export const OLD_LOAD_SPAN: Span = { warmUpMs: 72_000, windowMs: 28_000 };
const SHAPES = [
  { users: 50, thinkMs: 5_000 },
  { users: 200, thinkMs: 27_000 },
];
const ONE_CARD = { servers: 1, gpus: 1 };
const SIX_CARDS = { servers: 3, gpus: 2 };

export interface OldLoadRow {
  what: string;
  users: number;
  thinkMs: number;
  perSecond: number;
  meanMs: number;
  errorRate: number;
  /** The most that a card ran at one instant. */
  highestOnOne: number;
  /** Share of what the slots could have answered. */
  share: number;
}

/** As reported by its owners, for 50 to 200 users; the think times follow from them by Little's law. */
export const OLD_FIGURES = [
  { what: "then: one WebUI", perSecond: 1.2, meanMs: 8_400, errorRate: 0.18 },
  { what: "then: three nodes", perSecond: 6.8, meanMs: 2_100, errorRate: 0.005 },
];

interface Part {
  what: string;
  contender: Contender;
  cards: typeof ONE_CARD;
}

/** Measures only the contenders that are part of this session. */
export async function measureOldLoad(contenders: readonly Contender[]): Promise<OldLoadRow[]> {
  const [direct, portico] = ["direct", "portico"].map((name) => contenders.find((one) => one.name === name));
  const parts: Part[] = [
    ...(direct === undefined ? [] : [{ what: "one card, bare", contender: direct, cards: ONE_CARD }]),
    ...(portico === undefined
      ? []
      : [
          { what: "one card, Portico", contender: portico, cards: ONE_CARD },
          { what: "six cards, Portico", contender: portico, cards: SIX_CARDS },
        ]),
  ];
  const open: Place[] = [];
  try {
    // Sequentially: they would otherwise write the same bundle at the same time.
    for (const part of parts) for (const shape of SHAPES) open.push(await openPlace(part, shape));
    return await Promise.all(open.map(measurePlace));
  } finally {
    await Promise.all(open.map(({ close }) => close()));
  }
}

interface Place {
  what: string;
  shape: (typeof SHAPES)[number];
  park: CardPark;
  door: Door;
  close: () => Promise<void>;
}

async function openPlace({ what, contender, cards }: Part, shape: Place["shape"]): Promise<Place> {
  const park = await CardPark.open(cards);
  try {
    await park.setTiming(TIMING);
    const door = await contender.open(park.places);
    const close = async (): Promise<void> => {
      await door.close();
      await park.close();
    };
    return { what, shape, park, door, close };
  } catch (error) {
    await park.close();
    throw error;
  }
}

async function measurePlace({ what, shape, park, door }: Place): Promise<OldLoadRow> {
  const { users } = shape;
  let cards: CardsSeen | null = null;
  const name = `${what}, ${users} thinking users`;
  const crowd = { name, target: door.target, isHasty: false, leaves: () => null, ...shape, ...OLD_LOAD_SPAN };
  const seen = await runCrowd(crowd, async () => {
    cards = await park.seen();
  });
  if (cards === null) throw new Error("the cards were not looked at");
  const { okPerSecond: perSecond, errorRate, highestOnOne, share } = figuresOf(seen, cards, users);
  const meanMs = mean(seen.samples.filter(({ status }) => status === 200).map(({ ms }) => ms));
  return { what, ...shape, perSecond, meanMs, errorRate, highestOnOne, share };
}
