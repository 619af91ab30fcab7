import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { temporaryFolders } from "../support/folders.ts";

/** Isolates start within a time limit; a bundle above this size means a dependency was bundled by mistake. */
const BUNDLE_KIB_MAX = 3_000;
const DRY_RUN_MS_MAX = 60_000;

const newFolder = temporaryFolders();

test(
  "the Worker deploys with wrangler.toml (dry run), with every binding and without local settings",
  async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(ROOT, "node_modules/wrangler/bin/wrangler.js"), "deploy", "--dry-run", "--outdir", newFolder()],
      { cwd: ROOT, env: { ...process.env, CI: "true", NO_COLOR: "1", WRANGLER_SEND_METRICS: "false" } },
    );
    const size = /Total Upload: ([\d.]+) KiB \/ gzip: ([\d.]+) KiB/.exec(stdout);
    console.log(`bundle: ${size?.[1]} KiB, gzip ${size?.[2]} KiB`);
    expect(Number(size?.[1])).toBeLessThan(BUNDLE_KIB_MAX);
    for (const binding of ["CARD", "POOL", "TENANT", "DB", "RESULTS", "GUESSES", "FLOOD"]) {
      expect(stdout).toContain(`env.${binding} `);
    }
    expect(stdout).not.toContain("LOCAL_MODE");
    expect(stdout).toContain("--dry-run: exiting now.");

    // The local bundle is the deployed one, apart from the paths that a bundler writes into comments.
    const local = await bundle(undefined, newFolder());
    expect(Math.abs(local.bytes / 1024 - Number(size?.[1]))).toBeLessThan(20);
  },
  DRY_RUN_MS_MAX,
);
