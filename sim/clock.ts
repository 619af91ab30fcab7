/** Milliseconds since the epoch that never step back, whatever is done to the wall clock. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
