/** Returns a file's text, or `otherwise` if there is no such file. */
import { readFileSync } from "node:fs";

export function readOr(path, otherwise) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return otherwise;
    throw error;
  }
}
