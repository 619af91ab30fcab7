/** Describes the machine and the versions that a measurement ran on. */
import { execFileSync } from "node:child_process";
import { cpus, release, totalmem, type } from "node:os";
import { createRequire } from "node:module";
import { find } from "./peers.ts";

export interface Machine {
  cpu: string;
  cores: number;
  memoryGb: number;
  system: string;
  versions: Record<string, string>;
}

export function machine(): Machine {
  const { model = "unknown" } = cpus()[0] ?? {};
  return {
    cpu: model.trim(),
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    // Only the version of the kernel: the rest names its builder.
    system: `${type()} ${/^\d+\.\d+/.exec(release())?.[0] ?? ""}`,
    versions: {
      node: process.version.slice(1),
      workerd: installed("workerd"),
      miniflare: installed("miniflare"),
      haproxy: said("haproxy", ["-v"], /version ([\d.]+)/),
      nginx: said("nginx", ["-v"], /nginx\/([\d.]+)/),
    },
  };
}

export function describe({ cpu, cores, memoryGb, system }: Machine): string {
  return `${cores} cores of ${cpu}, ${memoryGb} GB, ${system}`;
}

function installed(name: string): string {
  const ofMiniflare = createRequire(createRequire(import.meta.url).resolve("miniflare"));
  const { version }: { version: string } = ofMiniflare(`${name}/package.json`);
  return version;
}

function said(program: string, args: string[], version: RegExp): string {
  const path = find(program);
  if (path === null) return "not installed";
  // nginx prints its version on standard error.
  const text = execFileSync("/bin/sh", ["-c", `"$0" "$@" 2>&1`, path, ...args], { encoding: "utf8" });
  return version.exec(text)?.[1] ?? "unknown";
}
