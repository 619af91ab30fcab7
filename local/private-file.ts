/** Writes files that only their owner can read, atomically. */
import { open, rename } from "node:fs/promises";

export async function writePrivate(path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}`;
  const file = await open(aside, "w", 0o600);
  try {
    // The mode passed to open is masked by the umask, and ignored if the file exists.
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}
