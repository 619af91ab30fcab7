import { test } from "vitest";
import { startPark } from "../../sim/park.ts";
import { PICTURE, SOUND } from "../../local/demo.ts";
import { startPortico } from "../support/portico.ts";
import { raw } from "../support/raw.ts";
test("x", async () => {
  const park = await startPark({ service: { speed: 20 } });
  for (const it of [PICTURE, SOUND]) {
    const t = performance.now();
    const a = await fetch(park.cards[0]!.origin + it.path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(it.body) });
    const b = await a.arrayBuffer();
    console.log("direct", a.status, b.byteLength, performance.now() - t);
  }
  await park.close();
  for (const child of [false, true]) {
    const p = await startPortico({ child });
    const key = await p.key();
    for (const it of [PICTURE, SOUND]) {
      const t = performance.now();
      const a = await raw(p.url, { method: "POST", target: it.path, headers: { authorization: `Bearer ${key}`, "content-type": "application/json" }, body: JSON.stringify(it.body) });
      console.log(child, a.status, a.body.length, performance.now() - t, a.header("server-timing"), a.text.slice(0, 300));
    }
    await p.stop();
  }
}, 100000);
