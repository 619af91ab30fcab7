/** Bundles the Worker as wrangler does, for local mode and the tests. */
import { createHash } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build, type Loader } from "esbuild";
import { ROOT } from "./root.ts";

export interface Bundle {
  path: string;
  text: string;
  bytes: number;
  hash: string;
}

/** wrangler's default module rules as esbuild loaders: text modules become strings, data modules bytes. */
const LOADERS: Record<string, Loader> = { ".txt": "text", ".html": "text", ".sql": "text", ".bin": "binary" };

/**
 * Bundles worker/index.ts to dist/index.js. The file is replaced atomically, so concurrent builds do not corrupt it.
 */
export async function bundle(entry = join(ROOT, "worker/index.ts"), folder = join(ROOT, "dist")): Promise<Bundle> {
  const built = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2024",
    // workerd supports these natively; transpiled, the code would differ from what is deployed.
    supported: { "import-source": true, using: true },
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    loader: LOADERS,
    define: { "process.env.NODE_ENV": '"production"' },
    keepNames: false,
    logLevel: "warning",
    absWorkingDir: ROOT,
  });
  const text = built.outputFiles[0]?.text ?? "";
  const path = join(folder, "index.js");
  await mkdir(folder, { recursive: true });
  await writeFile(`${path}.${process.pid}`, text);
  await rename(`${path}.${process.pid}`, path);
  return { path, text, bytes: Buffer.byteLength(text), hash: createHash("sha256").update(text).digest("hex") };
}

if (import.meta.main) {
  const { path, bytes } = await bundle();
  console.log(`${path}: ${(bytes / 1024).toFixed(0)} KiB`);
}
