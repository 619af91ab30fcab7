/** `portico services`: the services, each one model behind one public route. */
import type { Command } from "commander";
import { acting, destructive, leaf, listing, type Rows, showList, showThing, type Yes } from "./command.ts";
import { confirm } from "./confirm.ts";
import { path } from "./path.ts";
import { inSeconds } from "./table.ts";
import { type Body, fileBody, merged, setting } from "./values.ts";

interface Service {
  id: string;
  kind: string;
  route: string;
  paused: boolean;
  cards: string[];
  live: { queued: number; oldest_wait_ms: number; service_ms: number | null } | null;
}

interface Put {
  file?: string;
  kind?: string;
  route?: string;
  set?: Body;
}

export function addServices(program: Command): void {
  const services = program.command("services").description("one model behind one public route each");

  listing(services, "list services with their lines", "services list").action(
    acting(async (front, { rows }: Rows) =>
      showList<Service>(front, {
        path: "/services",
        rows,
        columns: {
          id: (row) => row.id,
          kind: (row) => row.kind,
          route: (row) => row.route,
          state: (row) => (row.paused ? "paused" : "open"),
          cards: (row) => row.cards.length,
          queued: (row) => row.live?.queued,
          "oldest wait": (row) => inSeconds(row.live?.oldest_wait_ms),
          "mean run": (row) => inSeconds(row.live?.service_ms),
        },
      }),
    ),
  );

  leaf(services, "show <service>", "show a service with its line", "services show portrait").action(
    acting(async (front, id: string) => showThing(front, await front.api.call<Service>("GET", path`/services/${id}`))),
  );

  leaf(
    services,
    "put <service>",
    "create a service, or change the given settings",
    "services put portrait --kind image --route /sdapi/v1/ --set queue.max=500",
  )
    .option("--file <file>", "file with the API's JSON body (- for standard input); flags override it")
    .option("--kind <kind>", "image, tts or http")
    .option("--route <route>", "the public path, with a slash at both ends")
    .option("--set <path=value>", "any other field, as often as needed; the value is JSON, or else a text", setting)
    .action(
      acting(async (front, id: string, { file, kind, route, set = {} }: Put) => {
        const body = merged(merged(await fileBody(file), set), given({ kind, route }));
        showThing(front, await front.api.call<Service>("PUT", path`/services/${id}`, body));
      }),
    );

  destructive(leaf(services, "pause <service>", "refuse new requests to a service", "services pause portrait")).action(
    acting(async (front, id: string, { yes }: Yes) => {
      await confirm({ what: `New requests to ${id} will be refused until it is resumed.`, name: id, yes });
      showThing(front, await front.api.call<Service>("POST", path`/services/${id}/pause`));
    }),
  );

  leaf(services, "resume <service>", "let requests in again", "services resume portrait").action(
    acting(async (front, id: string) =>
      showThing(front, await front.api.call<Service>("POST", path`/services/${id}/resume`)),
    ),
  );

  destructive(
    leaf(services, "delete <service>", "delete a service; its cards stay", "services delete portrait"),
  ).action(
    acting(async (front, id: string, { yes }: Yes) => {
      await confirm({ what: `Service ${id} will be deleted; requests that wait for it are refused.`, name: id, yes });
      await front.api.delete(path`/services/${id}`);
      front.answer(null, () => `Service ${id} is deleted.`);
    }),
  );
}

function given(fields: Body): Body {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
