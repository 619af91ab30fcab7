import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { expect, test } from "vitest";
import { type Database, migrate } from "../../local/migrate.ts";
import { ROOT } from "../../local/root.ts";
import { temporaryFolders } from "../support/folders.ts";

const newFolder = temporaryFolders();

/** D1's interface to SQLite, as far as migrations need it: a batch is one transaction. */
class Db implements Database {
  readonly sqlite = new DatabaseSync(":memory:");

  prepare(sql: string) {
    const statement = (values: SQLInputValue[]) => ({
      bind: (...more: SQLInputValue[]) => statement(more),
      run: async () => this.sqlite.prepare(sql).run(...values),
      all: async () => ({ results: this.sqlite.prepare(sql).all(...values) }),
    });
    return statement([]);
  }

  async batch(statements: { run(): Promise<unknown> }[]): Promise<void> {
    this.sqlite.exec("BEGIN");
    try {
      for (const statement of statements) await statement.run();
      this.sqlite.exec("COMMIT");
    } catch (error) {
      this.sqlite.exec("ROLLBACK");
      throw error;
    }
  }

  names(table: string, column = "name"): unknown[] {
    return this.sqlite
      .prepare(`SELECT ${column} AS it FROM ${table} ORDER BY 1`)
      .all()
      .map((row) => row["it"]);
  }
}

function migrations(files: Record<string, string>): string {
  const folder = join(newFolder(), "migrations");
  mkdirSync(folder);
  for (const [name, sql] of Object.entries(files)) writeFileSync(join(folder, name), sql);
  return folder;
}

test("each migration is applied once, in the order of names, and recorded as wrangler records it", async () => {
  const db = new Db();
  const folder = migrations({
    "0001_b.sql": "ALTER TABLE a ADD COLUMN y;",
    "0000_a.sql": "CREATE TABLE a (x);\n--> statement-breakpoint\nINSERT INTO a VALUES (1);",
    "notes.md": "no migration",
  });
  expect(await migrate(db, folder)).toEqual(["0000_a.sql", "0001_b.sql"]);
  expect(await migrate(db, folder)).toEqual([]);
  expect(db.names("a", "x")).toEqual([1]);
  expect(db.names("d1_migrations")).toEqual(["0000_a.sql", "0001_b.sql"]);
});

test("a migration that fails halfway is rolled back and tried again", async () => {
  const db = new Db();
  const folder = migrations({
    "0000_a.sql": "CREATE TABLE a (x);--> statement-breakpoint\nINSERT INTO missing VALUES (1);",
  });
  await expect(migrate(db, folder)).rejects.toThrow("missing");
  expect(db.names("sqlite_master WHERE name = 'a'")).toEqual([]);
  expect(db.names("d1_migrations")).toEqual([]);
  writeFileSync(join(folder, "0000_a.sql"), "CREATE TABLE a (x);");
  expect(await migrate(db, folder)).toEqual(["0000_a.sql"]);
});

test("the project's own migrations apply to an empty database", async () => {
  const db = new Db();
  const applied = await migrate(db, join(ROOT, "migrations"));
  expect(applied[0]).toBe("0000_first.sql");
  expect(db.names("sqlite_master WHERE type = 'table'")).toEqual(
    expect.arrayContaining(["services", "cards", "tenants", "keys"]),
  );
});
