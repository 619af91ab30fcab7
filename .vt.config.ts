import { defineConfig } from "vitest/config";
export default defineConfig({ test: { globalSetup: ["test/support/bundled.ts"], include: ["test/local/**/*.test.ts"], pool: "forks", maxWorkers: 2, testTimeout: 20000 , hookTimeout: 40000} });
