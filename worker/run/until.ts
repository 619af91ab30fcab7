/** Waits that end early: when the caller disconnects, or at a given time. */

/** Returns null when the caller disconnects first. */
export async function unlessGone<T>(wait: Promise<T>, gone: AbortSignal): Promise<T | null> {
  const { promise: left, resolve } = Promise.withResolvers<null>();
  const leave = (): void => resolve(null);
  if (gone.aborted) leave();
  else gone.addEventListener("abort", leave, { once: true });
  try {
    // Always raced, even when already gone: otherwise a later rejection of `wait` would be unhandled.
    return await Promise.race([left, wait]);
  } finally {
    gone.removeEventListener("abort", leave);
  }
}

/** Returns null when the time comes first. */
export async function unlessLate<T>(wait: Promise<T>, until: number | null): Promise<T | null> {
  if (until === null) return wait;
  let timer: number | null = null;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), Math.max(0, until - Date.now()));
  });
  try {
    return await Promise.race([wait, late]);
  } finally {
    clearTimeout(timer);
  }
}
