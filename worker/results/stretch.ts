/** Compares two sorted key lists page by page. Pure. */

/** One page of a list, in key order; `more`: further pages follow. */
export interface Page<Item extends { key: string }> {
  items: Item[];
  more: boolean;
}

export interface SharedStretch<Left, Right> {
  /** Items found on one side only. */
  left: Left[];
  right: Right[];
  compared: number;
  /** The key after which both continue; null when both are complete. */
  next: string | null;
}

/** Compares as far as both pages reach. */
export function stretch<Left extends { key: string }, Right extends { key: string }>(
  left: Page<Left>,
  right: Page<Right>,
): SharedStretch<Left, Right> {
  const ends = [left, right].flatMap(({ items, more }) => (more ? [items.at(-1)?.key ?? ""] : []));
  const next = ends.length === 0 ? null : ends.reduce((a, b) => (a < b ? a : b));
  const reached = ({ key }: { key: string }): boolean => next === null || key <= next;
  const [ls, rs] = [left.items.filter(reached), right.items.filter(reached)];
  const [lefts, rights] = [ls, rs].map((items) => new Set(items.map(({ key }) => key)));
  return {
    left: ls.filter(({ key }) => !rights?.has(key)),
    right: rs.filter(({ key }) => !lefts?.has(key)),
    compared: new Set([...ls, ...rs].map(({ key }) => key)).size,
    next,
  };
}
