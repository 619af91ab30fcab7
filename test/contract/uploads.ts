/** Multipart uploads in the local stand-in for R2. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** Counts multipart uploads that are neither complete nor aborted. */
export function openUploads(stateDir: string): number {
  const folder = join(stateDir, "state/v3/r2/miniflare-R2BucketObject");
  const files = readdirSync(folder).filter((name) => /^[0-9a-f]+\.sqlite$/.test(name));
  return files.reduce((sum, name) => {
    const database = new DatabaseSync(join(folder, name), { readOnly: true });
    try {
      const row = database.prepare("SELECT count(*) AS open FROM _mf_multipart_uploads WHERE state = 0").get();
      return sum + Number(row?.["open"]);
    } finally {
      database.close();
    }
  }, 0);
}
