/**
 * When an object's alarm comes. Three things of the platform stand behind it: a time with a fraction of a millisecond is cut,
 * so that its alarm comes before it is due; an alarm that its own handler sets again to the very millisecond at which it came
 * is dropped, and its time stays there for ever (workerd's issue 6866); a handler that never ends holds up all later alarms
 * for 15 minutes. So times are whole, rounded up, and later than now; handlers wait for nobody without a limit; and an alarm
 * that is overdue all the same counts as none.
 */
interface Alarms {
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
}

/** An alarm is no later than this, however busy everything is. */
const LATE_MS = 5_000;

/** An alarm at this time, ms of the epoch, in place of any other. */
export function wakeAt(storage: Alarms, at: number): Promise<void> {
  return storage.setAlarm(Math.max(Math.ceil(at), Date.now() + 1));
}

/** An alarm at this time, or before. */
export async function wakeBy(storage: Alarms, at: number): Promise<void> {
  const set = await storage.getAlarm();
  if (set === null || set > at || set < Date.now() - LATE_MS) await wakeAt(storage, at);
}
