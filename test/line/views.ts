/** What the front door shows of its slots, its line and its requests, as far as these tests look. */

export interface Lease {
  card: string;
  number: number;
  state: "leased" | "draining";
  holder: string;
  drain_until: string | null;
}

export interface ClusterStatus {
  status: string;
  timestamp: string;
  total_capacity: number;
  in_use: number;
  queued: number;
  services: { id: string; in_use: number; queued: number; healthy_cards: number }[];
}

/** What `/v1/requests/<id>` says. */
export interface Became {
  state: string;
  status: number | null;
  results: { id: string; url: string }[];
}
