/**
 * A map sorted by key (a B+ tree): lookup, insertion, deletion and minimum in logarithmic time. The package is CommonJS
 * with a default export; what a default import yields depends on the module loader.
 */
import Package from "sorted-btree";

export const SortedMap: typeof Package = (Package as unknown as { default?: typeof Package }).default ?? Package;
export type SortedMap<K, V> = Package<K, V>;
