/** `portico keys`: the API keys of tenants. A key is shown only in the answer that creates it. */
import type { Command } from "commander";
import {
  acting,
  destructive,
  type Front,
  leaf,
  listing,
  type Rows,
  showList,
  showSecret,
  showThing,
  type Yes,
} from "./command.ts";
import { confirm } from "./confirm.ts";
import { path } from "./path.ts";
import { shortTime } from "./table.ts";
import { tenantNamed } from "./tenants.ts";
import { moment, seconds, words } from "./values.ts";

interface Key {
  id: string;
  tenant: string;
  name: string | null;
  tail: string;
  scopes: string[] | null;
  services: string[] | null;
  state: string;
  expires_at: string | null;
  last_used_at: string | null;
}

interface Creation {
  name?: string;
  scopes?: string[];
  services?: string[];
  expires?: string;
}

/** A key as people are shown it: null scopes and services mean all of them. */
const forPeople = (key: Key) => ({ ...key, scopes: key.scopes ?? "all", services: key.services ?? "all" });

function showKey(front: Front, key: Key): void {
  showThing(front, key, forPeople(key));
}

function showNewKey(front: Front, key: Key): void {
  showSecret(front, key, forPeople(key));
}

export function addKeys(program: Command): void {
  const keys = program.command("keys").description("API keys of tenants");

  listing(keys, "list keys, the oldest first", "keys list --tenant studio")
    .option("--tenant <tenant>", "only this tenant's, by id or name")
    .action(
      acting(async (front, { rows, tenant }: Rows & { tenant?: string }) =>
        showList<Key>(front, {
          path: "/keys",
          rows,
          query: { tenant: tenant === undefined ? null : (await tenantNamed(front.api, tenant)).id },
          columns: {
            id: (row) => row.id,
            name: (row) => row.name,
            tenant: (row) => row.tenant,
            "ends in": (row) => row.tail,
            state: (row) => row.state,
            scopes: (row) => forPeople(row).scopes,
            services: (row) => forPeople(row).services,
            expires: (row) => shortTime(row.expires_at),
            "last used": (row) => shortTime(row.last_used_at),
          },
        }),
      ),
    );

  leaf(keys, "create <tenant>", "make a key for a tenant", "keys create studio --name web --expires 90d")
    .option("--name <name>", "what it is for")
    .option("--scopes <scopes>", "comma-separated: infer, jobs, results, usage; default: all", words)
    .option("--services <ids>", "comma-separated services that the key may use; default: all", words)
    .option("--expires <when>", "30d, 2027-01-31, or a time with its offset; never when left out", moment)
    .action(
      acting(async (front, tenant: string, { name, scopes, services, expires }: Creation) => {
        const { id } = await tenantNamed(front.api, tenant);
        const body = { name, scopes, services, expires_at: expires ?? undefined };
        showNewKey(front, await front.api.call<Key>("POST", path`/tenants/${id}/keys`, body));
      }),
    );

  leaf(keys, "rename <key> <name>", "give a key another name", "keys rename 7Yp2mQx0 web").action(
    acting(async (front, key: string, name: string) =>
      showKey(front, await front.api.call<Key>("PATCH", path`/keys/${key}`, { name })),
    ),
  );

  destructive(leaf(keys, "rotate <key>", "replace a key by a new one", "keys rotate 7Yp2mQx0 --overlap 1d"))
    .option(
      "--overlap <span>",
      "how long the old one keeps working: 90, 15m, 12h, 30d; default: not at all",
      seconds,
      0,
    )
    .action(
      acting(async (front, key: string, { overlap, yes }: Yes & { overlap: number }) => {
        if (overlap === 0) await confirm({ what: `Key ${key} will stop working within 10 s.`, name: key, yes });
        showNewKey(front, await front.api.call<Key>("POST", path`/keys/${key}/rotate`, { overlap_s: overlap }));
      }),
    );

  destructive(leaf(keys, "revoke <key>", "end a key for good", "keys revoke 7Yp2mQx0")).action(
    acting(async (front, key: string, { yes }: Yes) => {
      await confirm({ what: `Key ${key} will stop working within 10 s, for good.`, name: key, yes });
      await front.api.delete(path`/keys/${key}`);
      front.answer(null, () => `Key ${key} is revoked.`);
    }),
  );

  destructive(leaf(keys, "disable <key>", "refuse a key until it is enabled", "keys disable 7Yp2mQx0")).action(
    acting(async (front, key: string, { yes }: Yes) => {
      await confirm({ what: `Key ${key} will stop working within 10 s.`, name: key, yes });
      showKey(front, await front.api.call<Key>("PATCH", path`/keys/${key}`, { state: "disabled" }));
    }),
  );

  leaf(keys, "enable <key>", "let a disabled key work again", "keys enable 7Yp2mQx0").action(
    acting(async (front, key: string) =>
      showKey(front, await front.api.call<Key>("PATCH", path`/keys/${key}`, { state: "active" })),
    ),
  );

  addExpire(keys);
}

function addExpire(keys: Command): void {
  destructive(leaf(keys, "expire <key>", "set when a key stops working", "keys expire 7Yp2mQx0 2027-01-31"))
    .argument("<when>", "30d, 2027-01-31 (UTC), a time with its offset, or never", moment)
    .action(
      acting(async (front, key: string, at: string | null, { yes }: Yes) => {
        if (at !== null && Date.parse(at) <= Date.now())
          await confirm({ what: `Key ${key} will stop working within 10 s.`, name: key, yes });
        showKey(front, await front.api.call<Key>("PATCH", path`/keys/${key}`, { expires_at: at }));
      }),
    );
}
