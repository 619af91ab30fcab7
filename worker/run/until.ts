/** Waits that end early: when the caller goes, or when a time comes. */

/** Null when the caller goes first. */
export async function unlessGone<T>(wait: Promise<T>, gone: AbortSignal): Promise<T | null> {
  const { promise: left, resolve } = Promise.withResolvers<null>();
  const leave = (): void => resolve(null);
  if (gone.aborted) leave();
  else gone.addEventListener("abort", leave, { once: true });
  try {
    // Raced in any case: a wait that fails later is nobody's loose end.
    return await Promise.race([left, wait]);
  } finally {
    gone.removeEventListener("abort", leave);
  }
}

/** Null when the time comes first. */
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
