/** The parts of our answers about leases, the line and requests that these tests read. */

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

/** The answer of `/v1/requests/<id>`. */
export interface Became {
  state: string;
  status: number | null;
  results: { id: string; url: string }[];
}
