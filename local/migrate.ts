/**
 * Applies migrations/*.sql to a D1 database, each once and in one transaction, in the order of their names. Records
 * them in the table that wrangler uses, so that `wrangler d1 migrations` agrees.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const RECORD = `CREATE TABLE IF NOT EXISTS d1_migrations(
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	name TEXT UNIQUE,
	applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)`;

/** The part of a D1 binding that is used here; there is no type for it in Node. */
interface Statement {
  bind(...values: unknown[]): Statement;
  run(): Promise<unknown>;
  all(): Promise<{ results: Record<string, unknown>[] }>;
}
export interface Database {
  prepare(sql: string): Statement;
  batch(statements: Statement[]): Promise<unknown>;
}

/** Returns the names of the migrations that were applied now. */
export async function migrate(db: Database, folder: string): Promise<string[]> {
  await db.prepare(RECORD).run();
  const { results } = await db.prepare("SELECT name FROM d1_migrations").all();
  const before = new Set(results.map((row) => row["name"]));
  const names = (await readdir(folder)).filter((name) => name.endsWith(".sql") && !before.has(name)).toSorted();
  for (const name of names) {
    const statements = statementsOf(await readFile(join(folder, name), "utf8"));
    const record = db.prepare("INSERT INTO d1_migrations (name) VALUES (?)").bind(name);
    // A batch is one transaction: an interrupted migration leaves nothing behind.
    await db.batch([...statements.map((sql) => db.prepare(sql)), record]);
  }
  return names;
}

/** drizzle-kit separates statements with this marker. */
function statementsOf(sql: string): string[] {
  return sql
    .split("--> statement-breakpoint")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
