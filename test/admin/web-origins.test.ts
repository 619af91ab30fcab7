/** A tenant's web origins in the admin API. */
import { expect, test } from "vitest";
import { frontDoor } from "./front-door.ts";

const door = frontDoor();
const APP = "https://app.example.com";
const LOCAL = "http://localhost:3000";
const create = (origins: unknown) => door.admin("POST", "/tenants", { name: "t", origins });
const refused = (origins: unknown) => door.refusal("POST", "/tenants", { name: "t", origins });

test("origins default to none, are replaced by a patch, and are recorded in the audit log", async () => {
  const { json } = await create([APP, LOCAL]);
  expect(json).toMatchObject({ origins: [APP, LOCAL] });
  expect(await door.done("PATCH", `/tenants/${json.id}`, { origins: ["*"] })).toMatchObject({ origins: ["*"] });
  expect(await door.done("PATCH", `/tenants/${json.id}`, { weight: 2 })).toMatchObject({ origins: ["*"] });
  expect(await door.done("GET", `/tenants/${json.id}`)).toMatchObject({ origins: ["*"] });
  const { data } = await door.done("GET", `/audit?target=${json.id}`);
  expect(data.at(-2)).toMatchObject({ before: { origins: [APP, LOCAL] }, after: { origins: ["*"] } });
  expect(await door.done("POST", "/tenants", { name: "t" })).toMatchObject({ origins: [] });
});

test("origins that no browser would send are refused and named by index", async () => {
  const bad: unknown[] = [
    "app.example.com",
    "https://app.example.com/",
    "https://app.example.com/path",
    "https://app.example.com?x",
    "https://app.example.com:443",
    "http://app.example.com:80",
    "https://APP.example.com",
    "https://*.example.com",
    "https://user@app.example.com",
    "https://bücher.example",
    "https://a b.example",
    "https://app.example.com\r\nX: y",
    "ftp://app.example.com",
    "javascript:alert(1)",
    "file://",
    "null",
    "",
    " *",
    `https://${"a".repeat(400)}.example`,
    5,
    null,
  ];
  for (const one of bad) expect(await refused([APP, one]), String(one)).toBe("400 invalid_field origins.1");
  const many = Array.from({ length: 101 }, (_, i) => `https://a${i}.example`);
  for (const all of ["*", APP, {}, null, ["*", APP], many])
    expect(await refused(all), JSON.stringify(all)).toBe("400 invalid_field origins");
});

test("up to 100 http and https origins are accepted, with ports, IP addresses and punycode", async () => {
  const some = ["http://127.0.0.1:3000", "http://[::1]:8080", "https://xn--bcher-kva.example", LOCAL, APP];
  expect((await create(some)).status).toBe(201);
  expect((await create(Array.from({ length: 100 }, (_, i) => `https://a${i}.example`))).status).toBe(201);
});
