import { defineConfig } from "vitest/config";
export default defineConfig({ root: "/work/main", test: { include: ["test/local/**/*.test.ts"], pool: "forks", maxWorkers: 2, testTimeout: 20000 , hookTimeout: 40000} });
