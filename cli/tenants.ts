/** `portico tenants`: the tenants and their limits. */
import type { Command } from "commander";
import type { Limits } from "../worker/caller/tenant.ts";
import type { Api } from "./api.ts";
import { acting, destructive, type Front, leaf, listing, type Rows, showList, showThing, type Yes } from "./command.ts";
import { confirm } from "./confirm.ts";
import { Failure } from "./failure.ts";
import { named } from "./named.ts";
import { path } from "./path.ts";
import { shortTime } from "./table.ts";
import { type Body, number, setting } from "./values.ts";

/** Enough for twenty million results: a call removes up to 20,000. */
const REMOVALS_MAX = 1000;

export interface Tenant {
  id: string;
  name: string;
  limits: Limits;
  weight: number;
  state: string;
  created_at: string;
}

interface Settings {
  name?: string;
  weight?: number;
  limit?: Body;
}

export const tenantNamed = (api: Api, text: string) => named<Tenant>(api, "/tenants", text);

export function addTenants(program: Command): void {
  const tenants = program.command("tenants").description("who pays, and how much they may ask for");

  listing(tenants, "list tenants, the oldest first", "tenants list").action(
    acting(async (front, { rows }: Rows) =>
      showList<Tenant>(front, {
        path: "/tenants",
        rows,
        columns: {
          id: (row) => row.id,
          name: (row) => row.name,
          state: (row) => row.state,
          weight: (row) => row.weight,
          "per minute": (row) => row.limits.requests_per_minute,
          concurrent: (row) => row.limits.concurrent,
          waiting: (row) => row.limits.waiting,
          "per month": (row) => row.limits.results_per_month,
          created: (row) => shortTime(row.created_at),
        },
      }),
    ),
  );

  leaf(tenants, "show <tenant>", "show a tenant, by id or name", "tenants show studio").action(
    acting(async (front, text: string) => showThing(front, await tenantNamed(front.api, text))),
  );

  settings(leaf(tenants, "create <name>", "make a tenant", "tenants create studio --limit concurrent=12")).action(
    acting(async (front, name: string, given: Settings) =>
      showThing(front, await front.api.call<Tenant>("POST", "/tenants", body({ ...given, name }))),
    ),
  );

  settings(leaf(tenants, "edit <tenant>", "change a tenant", "tenants edit studio --weight 2 --limit burst=120"))
    .option("--name <name>", "a new name")
    .action(
      acting(async (front, text: string, given: Settings) => {
        const { id } = await tenantNamed(front.api, text);
        showThing(front, await front.api.call<Tenant>("PATCH", path`/tenants/${id}`, body(given)));
      }),
    );

  destructive(leaf(tenants, "disable <tenant>", "refuse a tenant's keys", "tenants disable studio")).action(
    acting(async (front, text: string, { yes }: Yes) => {
      const { id, name } = await tenantNamed(front.api, text);
      await confirm({ what: `Every key of tenant ${name} (${id}) will be refused.`, name, yes });
      showThing(front, await front.api.call<Tenant>("PATCH", path`/tenants/${id}`, { state: "disabled" }));
    }),
  );

  leaf(tenants, "enable <tenant>", "let a disabled tenant in again", "tenants enable studio").action(
    acting(async (front, text: string) => {
      const { id } = await tenantNamed(front.api, text);
      showThing(front, await front.api.call<Tenant>("PATCH", path`/tenants/${id}`, { state: "active" }));
    }),
  );

  destructive(
    leaf(tenants, "delete <tenant>", "delete a tenant with its keys and results", "tenants delete studio"),
  ).action(
    acting(async (front, text: string, { yes }: Yes) => {
      const tenant = await tenantNamed(front.api, text);
      const { id, name } = tenant;
      await confirm({ what: `Tenant ${name} (${id}) will be deleted, with its keys and all its results.`, name, yes });
      await remove(front, tenant);
      front.answer(null, () => `Tenant ${name} is deleted.`);
    }),
  );
}

function settings(command: Command): Command {
  return command
    .option("--weight <n>", "share of the slots when there are not enough for everybody", number)
    .option("--limit <name=value>", "a limit, may be repeated; null removes it where that is possible", setting);
}

function body({ name, weight, limit }: Settings): Body {
  return { name, weight, limits: limit };
}

/** Deletes a tenant. A call removes results for some seconds and returns 202 as long as some are left. */
async function remove({ api, note }: Front, { id, name }: Tenant): Promise<void> {
  for (let calls = 1; calls <= REMOVALS_MAX; calls++) {
    try {
      if ((await api.delete(path`/tenants/${id}`)) !== 202) return;
    } catch (error) {
      // Another caller, or an earlier call of ours whose answer was lost, has finished the deletion.
      if (calls > 1 && error instanceof Failure && error.status === 404) return;
      throw error;
    }
    note(`Removing the results of ${name}: ${calls} ${calls === 1 ? "call" : "calls"} done, some are left.`);
  }
  throw new Failure(`${name} still has results after ${REMOVALS_MAX} calls.`, "Run the command again; it goes on.");
}
