/**
 * A map in the order of its keys (a B+ tree): look-up, insertion, removal and the first entry in logarithmic time.
 * The package is CommonJS with a default export: what a default import gives depends on who loads it.
 */
import Package from "sorted-btree";

export const SortedMap: typeof Package = (Package as unknown as { default?: typeof Package }).default ?? Package;
export type SortedMap<K, V> = Package<K, V>;
