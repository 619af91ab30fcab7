/** Files for their owner alone, whole or not there at all. */
import { open, rename } from "node:fs/promises";

export async function writePrivate(path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}`;
  const file = await open(aside, "w", 0o600);
  try {
    // The mode given to open is cut by the umask and ignored for a file that exists.
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}
