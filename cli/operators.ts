/**
 * `portico operators`: the people and machines that operate the deployment. A token is shown only in the answer that
 * creates it.
 */
import type { Command } from "commander";
import type { Api } from "./api.ts";
import { acting, destructive, leaf, listing, type Rows, showList, showSecret, showThing, type Yes } from "./command.ts";
import { confirm } from "./confirm.ts";
import { named } from "./named.ts";
import { path } from "./path.ts";
import { shortTime } from "./table.ts";
import { moment, seconds } from "./values.ts";

interface Operator {
  id: string;
  name: string;
  role: string;
  email: string | null;
  state: string;
  expires_at: string | null;
  last_used_at: string | null;
  token?: string;
}

interface Creation {
  role: string;
  email?: string;
  expires?: string;
  accessOnly?: boolean;
}

const operatorNamed = (api: Api, text: string) => named<Operator>(api, "/operators", text);

export function addOperators(program: Command): void {
  const operators = program.command("operators").description("who runs the deployment");

  listing(operators, "list operators, the oldest first", "operators list").action(
    acting(async (front, { rows }: Rows) =>
      showList<Operator>(front, {
        path: "/operators",
        rows,
        columns: {
          id: (row) => row.id,
          name: (row) => row.name,
          role: (row) => row.role,
          email: (row) => row.email,
          state: (row) => row.state,
          expires: (row) => shortTime(row.expires_at),
          "last used": (row) => shortTime(row.last_used_at),
        },
      }),
    ),
  );

  leaf(operators, "create <name>", "make an operator", "operators create night-shift --role ops --expires 90d")
    .requiredOption("--role <role>", "read, ops (may do what read may) or admin (everything)")
    .option("--email <address>", "by which Cloudflare Access knows the operator")
    .option("--expires <when>", "30d, 2027-01-31, or a time with its offset; never when left out", moment)
    .option("--access-only", "no token; access only through Cloudflare Access")
    .action(
      acting(async (front, name: string, { role, email, expires, accessOnly }: Creation) => {
        const body = { name, role, email, expires_at: expires ?? undefined, token: accessOnly ? false : undefined };
        const made = await front.api.call<Operator>("POST", "/operators", body);
        if (made.token === undefined) showThing(front, made);
        else showSecret(front, made);
      }),
    );

  leaf(operators, "role <operator> <role>", "give an operator another role", "operators role night-shift read").action(
    acting(async (front, text: string, role: string) => {
      const { id } = await operatorNamed(front.api, text);
      showThing(front, await front.api.call<Operator>("PATCH", path`/operators/${id}`, { role }));
    }),
  );

  destructive(
    leaf(operators, "rotate <operator>", "replace an operator's token", "operators rotate night-shift --overlap 1h"),
  )
    .option(
      "--overlap <span>",
      "how long the old one keeps working: 90, 15m, 12h, 30d; default: not at all",
      seconds,
      0,
    )
    .action(
      acting(async (front, text: string, { overlap, yes }: Yes & { overlap: number }) => {
        const { id, name } = await operatorNamed(front.api, text);
        if (overlap === 0) await confirm({ what: `The token of ${name} (${id}) will stop working.`, name, yes });
        const body = { overlap_s: overlap };
        showSecret(front, await front.api.call<Operator>("POST", path`/operators/${id}/rotate`, body));
      }),
    );

  destructive(
    leaf(operators, "revoke <operator>", "shut an operator out for good", "operators revoke night-shift"),
  ).action(
    acting(async (front, text: string, { yes }: Yes) => {
      const { id, name } = await operatorNamed(front.api, text);
      await confirm({ what: `Operator ${name} (${id}) will be shut out for good.`, name, yes });
      await front.api.delete(path`/operators/${id}`);
      front.answer(null, () => `Operator ${name} is revoked.`);
    }),
  );
}
