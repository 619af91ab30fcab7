/** STATE_DIR/park.json: which cards are simulated, and which of them a --no-sim start has disabled. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writePrivate } from "./private-file.ts";
import { hasCode } from "./failure.ts";

/** A card that was disabled because its simulator does not run, with the state to restore. */
export interface ParkedCard {
  id: string;
  state: "active" | "draining" | "disabled";
}

interface Park {
  cards: string[];
  parked: ParkedCard[];
}

const pathIn = (stateDir: string) => join(stateDir, "park.json");

export async function loadPark(stateDir: string): Promise<Park> {
  try {
    const park: Park = JSON.parse(await readFile(pathIn(stateDir), "utf8"));
    return park;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return { cards: [], parked: [] };
    throw error;
  }
}

/** Cards of earlier starts stay in the list, because they are still in the database. */
export async function keepPark(stateDir: string, cards: string[], parked?: ParkedCard[]): Promise<void> {
  const before = await loadPark(stateDir);
  const states = (parked ?? before.parked).map(({ id, state }) => ({ id, state }));
  const park: Park = { cards: [...new Set([...before.cards, ...cards])], parked: states };
  await writePrivate(pathIn(stateDir), `${JSON.stringify(park)}\n`);
}

export async function forgetParked(stateDir: string): Promise<void> {
  await keepPark(stateDir, [], []);
}
