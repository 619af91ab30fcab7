import { writeFileSync } from "node:fs";
import { test } from "vitest";
import { doorway } from "./doorway.ts";
const door = doorway();
const show = (n: string, a: any) => console.log(n, a.status, JSON.stringify(a.headers), a.text.slice(0, 600));
test("probe", async () => {
  writeFileSync("/tmp/openapi.json", (await door.ask("/openapi.json")).text);
  show("idem", await door.paint({}, {headers: {"idempotency-key": "abc"}}));
  show("prefer", await door.paint({}, {headers: {"prefer": "respond-async"}}));
  show("timeout", await door.paint({}, {headers: {"x-timeout-s": "0"}}));
  show("timeout", await door.paint({}, {headers: {"x-timeout-s": "1"}}));
  show("problem", await door.ask("/x", {headers: {"accept": "application/problem+json"}}));
  show("key", {status: 0, headers: 0, text: JSON.stringify(await door.portico.admin("POST", `/tenants/${await door.tenant()}/keys`, {}))});
});
