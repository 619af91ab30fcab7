import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isPublicHost, originProblem } from "../../worker/services/origins.ts";

const host = (address: string) => new URL(`https://[${address}]/`).hostname;

test("an origin is https: at a public host, and in local mode also http: at 127.0.0.1", () => {
  for (const url of [
    "https://gpu.example.com",
    "https://gpu.example.com:8443/base",
    "https://8.8.8.8/",
    "https://[2606:4700::1]/x",
  ]) {
    expect(originProblem(url, false), url).toBeNull();
    expect(originProblem(url, true), url).toBeNull();
  }
  for (const url of [
    "http://127.0.0.1:7860",
    "http://127.0.0.1:7860/sd",
    "http://2130706433:7860",
    "http://0x7f.1:7860",
  ]) {
    expect(originProblem(url, true), url).toBeNull();
    expect(originProblem(url, false), url).toBe("https");
  }
});

test("no other scheme and no other plain-http host is an origin, not even in local mode", () => {
  for (const url of [
    "http://gpu.example.com",
    "http://127.0.0.2:1",
    "http://localhost:7860",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "https://127.0.0.1:1",
    "wss://gpu.example.com",
  ]) {
    expect(originProblem(url, true), url).not.toBeNull();
    expect(originProblem(url, false), url).not.toBeNull();
  }
});

test("an origin has no credentials, no query, no fragment and no ambiguous path, not even an empty one", () => {
  const cases = {
    "https://user@gpu.example.com/": "no_credentials",
    "https://user:word@gpu.example.com/": "no_credentials",
    "https://gpu.example.com/?a=1": "no_query",
    "https://gpu.example.com/#x": "no_query",
    // A path appended to these would become part of a query or a fragment.
    "https://gpu.example.com/base?": "no_query",
    "https://gpu.example.com/base#": "no_query",
    "https://gpu.example.com//base": "plain_segments",
    "https://gpu.example.com/a%2fb": "plain_segments",
    "https://gpu.example.com/a%5Cb": "plain_segments",
    "not a url": "url",
    "": "url",
  };
  for (const [url, problem] of Object.entries(cases)) expect(originProblem(url, true), url).toBe(problem);
});

/** The special-purpose registries (RFC 6890 and later): first and last address of each block, and one inside. */
const PRIVATE_V4 = [
  ["0.0.0.0", "0.255.255.255"],
  ["10.0.0.0", "10.255.255.255"],
  ["100.64.0.0", "100.127.255.255"],
  ["127.0.0.0", "127.255.255.255"],
  ["169.254.0.0", "169.254.169.254", "169.254.255.255"],
  ["172.16.0.0", "172.31.255.255"],
  ["192.0.0.0", "192.0.0.255"],
  ["192.0.2.0", "192.0.2.255"],
  ["192.168.0.0", "192.168.255.255"],
  ["198.18.0.0", "198.19.255.255"],
  ["198.51.100.0", "198.51.100.255"],
  ["203.0.113.0", "203.0.113.255"],
  ["224.0.0.0", "239.255.255.255"],
  ["240.0.0.0", "255.255.255.255"],
];
const PUBLIC_V4 = [
  "1.1.1.1",
  "9.255.255.255",
  "11.0.0.0",
  "100.63.255.255",
  "100.128.0.0",
  "126.255.255.255",
  "128.0.0.0",
  "169.253.255.255",
  "172.15.255.255",
  "172.32.0.0",
  "191.255.255.255",
  "192.0.1.0",
  "192.167.255.255",
  "192.169.0.0",
  "198.17.255.255",
  "198.20.0.0",
  "198.51.99.255",
  "203.0.112.255",
  "203.0.114.0",
  "223.255.255.255",
];

test("no address of a special-purpose block is public, and the addresses next to the blocks are", () => {
  expect(PRIVATE_V4.flat().filter(isPublicHost)).toEqual([]);
  expect(PUBLIC_V4.filter((address) => !isPublicHost(address))).toEqual([]);
});

test("every spelling of an IPv4 address is judged as that address", () => {
  const property = fc.property(fc.ipV4(), (address) => {
    const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
    const number = ((a * 256 + b) * 256 + c) * 256 + d;
    const spellings = [
      String(number),
      `0x${number.toString(16)}`,
      `0${number.toString(8)}`,
      `${a}.${(b * 256 + c) * 256 + d}`,
      `${a}.${b}.${c * 256 + d}`,
      `${address}.`,
    ];
    const judged = spellings.map((spelling) => originProblem(`https://${spelling}/`, false) === null);
    expect(new Set(judged)).toEqual(new Set([isPublicHost(address)]));
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("IPv6 literals are public only as global unicast, excluding documentation and embedded IPv4", () => {
  const isPublic = ["2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2400:cb00::1", "3000::1"];
  const isPrivate = [
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2001::1",
    "2001:0:4136:e378::1",
    "3fff::1",
    "100::1",
  ];
  expect(isPublic.filter((address) => !isPublicHost(host(address)))).toEqual([]);
  expect(isPrivate.filter((address) => isPublicHost(host(address)))).toEqual([]);
});

test("names inside private networks are not public: special-use names, and names without a dot", () => {
  const names = [
    "localhost",
    "gpu",
    "gpu.",
    "gpu.local",
    "gpu.internal",
    "a.b.internal.",
    "printer.lan",
    "x.home.arpa",
    "x.corp",
    "x.test",
    "x.onion",
    "1.0.0.127.in-addr.arpa",
    "LOCALHOST.",
    "my.localhost",
  ];
  expect(names.filter((name) => isPublicHost(new URL(`https://${name}/`).hostname))).toEqual([]);
  expect(
    ["example.com", "gpu-01.example.co.uk", "localhost.example.com", "internal.example.com."].filter(
      (name) => !isPublicHost(name),
    ),
  ).toEqual([]);
});
