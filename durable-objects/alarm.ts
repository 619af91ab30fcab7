/**
 * Sets Durable Object alarms, working around three properties of the platform. A fractional time is truncated, so the
 * alarm would fire before it is due: times are rounded up. An alarm that its own handler sets to the very millisecond
 * at which it fired never fires, although `getAlarm` still returns its time: times are always later than now, and
 * an overdue alarm counts as unset. A handler that never returns delays all later alarms by 15 minutes: handlers bound
 * every wait.
 */
interface Alarms {
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
}

/** An alarm that is overdue by more than this is considered lost; even a busy object fires earlier. */
const LATE_MS = 5_000;

/** Sets the alarm to this time (ms since the epoch), replacing any other. */
export function wakeAt(storage: Alarms, at: number): Promise<void> {
  return storage.setAlarm(Math.max(Math.ceil(at), Date.now() + 1));
}

/** Makes sure that an alarm fires at this time or earlier. */
export async function wakeBy(storage: Alarms, at: number): Promise<void> {
  const set = await storage.getAlarm();
  if (set === null || set > at || set < Date.now() - LATE_MS) await wakeAt(storage, at);
}
