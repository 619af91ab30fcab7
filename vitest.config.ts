/**
 * Three ways to run tests: in Node; (test/objects, test/worker) inside the Workers runtime with the bindings of
 * wrangler.toml; and the fault suite (test/faults), which measures, so that it comes last and one file at a time.
 * Otherwise at most two files at a time: many of them start a runtime of their own.
 */
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

import { FaultTable } from "./test/faults/table.ts";

const FILES_AT_ONCE_MAX = 2;
const IN_WORKERD = ["test/objects/**/*.test.ts", "test/worker/**/*.test.ts"];

/** Known values: these tests make keys and signatures of their own. */
const VARIABLES = {
  LOCAL_MODE: "true",
  ADMIN_TOKEN: "test-admin-token-000000000000000000000000",
  KEY_SECRET: "test-key-secret-0000000000000000000000000",
  URL_KEYS: "k1:test-url-key-00000000000000000000000000000",
};

export default defineConfig({
  test: {
    maxWorkers: FILES_AT_ONCE_MAX,
    allowOnly: false,
    passWithNoTests: false,
    teardownTimeout: 10_000,
    reporters: ["default", new FaultTable()],
    projects: [
      {
        test: {
          name: "node",
          include: ["test/**/*.test.ts"],
          exclude: IN_WORKERD,
          environment: "node",
          pool: "forks",
          globalSetup: ["test/support/bundled.ts"],
          testTimeout: 20_000,
          hookTimeout: 40_000,
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: { bindings: { ...VARIABLES, MIGRATIONS: await readD1Migrations("migrations") }, cf: false },
          })),
        ],
        test: {
          name: "workerd",
          include: IN_WORKERD,
          setupFiles: ["test/support/migrated.ts"],
          testTimeout: 20_000,
          hookTimeout: 40_000,
        },
      },
      {
        test: {
          name: "faults",
          include: ["test/faults/**/*.faults.ts"],
          environment: "node",
          pool: "forks",
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
          globalSetup: ["test/support/bundled.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
