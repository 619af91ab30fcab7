/** Checks of webhook addresses and secrets at submission, and of the network that sends webhooks. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { doorway, errorOf, picture } from "../contract/doorway.ts";

const door = doorway();

const PRIVATE = [
  "https://127.0.0.1/",
  "https://2130706433/",
  "https://0x7f000001/",
  "https://0x7f.1/",
  "https://017700000001/",
  "https://0177.0.0.1/",
  "https://127.1/",
  "https://0/",
  "https://10.0.0.1/",
  "https://172.16.0.1/",
  "https://192.168.1.1/",
  "https://100.64.0.1/",
  "https://169.254.169.254/latest/meta-data",
  "https://0xa9fea9fe/",
  "https://[::1]/",
  "https://[::]/",
  "https://[::ffff:127.0.0.1]/",
  "https://[::ffff:a9fe:a9fe]/",
  "https://[64:ff9b::7f00:1]/",
  "https://[fe80::1]/",
  "https://[fd00::1]/",
  "https://[2002:7f00:1::]/",
  "https://localhost/",
  "https://LOCALHOST./",
  "https://a.localhost/",
  "https://router.local/",
  "https://metadata.google.internal/",
  "https://printer/",
  "https://１２７.0.0.1/",
  "https://①②⑦.0.0.1/",
];

const LOCAL_TRICKS = [
  "http://localhost:8080/",
  "http://[::1]:8080/",
  "http://10.0.0.1/",
  "http://2130706433:8080/",
  "http://0x7f000001:8080/",
  "http://127.1:8080/",
  "http://127.0.0.2:8080/",
  "http://0.0.0.0:8080/",
  "http://127.0.0.1.example.com/",
  "http://example.com/",
];

const OTHERS = [
  "https://user:secret@example.com/",
  "https://example.com@10.0.0.1/",
  "http://user@127.0.0.1:8080/",
  "ftp://example.com/",
  "file:///etc/passwd",
  "javascript:alert(1)",
  "https://example.com:0/",
  "http://127.0.0.1:0/",
  "example.com/hook",
  "//example.com/hook",
  "",
  `https://example.com/${"x".repeat(2_048)}`,
];

test("private, malformed and unsafe addresses are refused at submission, with the field's name", async () => {
  for (const url of [...PRIVATE, ...LOCAL_TRICKS, ...OTHERS]) {
    const answer = await door.ask("/v1/jobs", { json: { service: "portrait", input: picture(), webhook: { url } } });
    const { reason, param } = errorOf(answer);
    expect({ url, refusal: `${answer.status} ${reason} ${param}` }).toEqual({
      url,
      refusal: "400 invalid_field webhook.url",
    });
  }
});

test("the reason for refusing an address is also available in Chinese", async () => {
  const json = { service: "portrait", input: picture(), webhook: { url: "https://10.0.0.1/" } };
  const answer = await door.ask("/v1/jobs", { json, headers: { "accept-language": "zh" } });
  expect(errorOf(answer).message).toBe("参数 webhook.url 无效：必须指向公网主机");
});

test("an invalid secret is refused and not repeated in the answer", async () => {
  for (const secret of ["hunter2hunter2", "whsec_", "whsec_c2hvcnQ=", `whsec_${"A".repeat(200)}`, 7, ""]) {
    const webhook = { url: "https://example.com/", secret };
    const answer = await door.ask("/v1/jobs", { json: { service: "portrait", input: picture(), webhook } });
    expect(answer.status).toBe(400);
    expect(errorOf(answer).param).toBe("webhook.secret");
    expect(answer.text).not.toContain("hunter2");
  }
});

test("the network for public addresses reaches no private address, even if a name resolves to one", async () => {
  let asked = 0;
  const inside = createServer((_, res) => {
    asked++;
    res.end();
  });
  onTestFinished(() => void inside.close());
  await new Promise<void>((resolve) => void inside.listen(0, "127.0.0.1", resolve));
  const { port } = inside.address() as AddressInfo;
  const { OUTSIDE } = await door.portico.mf().getBindings<{ OUTSIDE: { fetch(url: string): Promise<Response> } }>();
  for (const host of ["127.0.0.1", "localhost", "[::1]"])
    await expect(OUTSIDE.fetch(`http://${host}:${port}/`)).rejects.toThrow("internal error");
  expect(asked).toBe(0);
});

async function takenWith(bytes: number): Promise<number> {
  const secret = `whsec_${Buffer.alloc(bytes, 1).toString("base64")}`;
  const webhook = { url: "https://example.com/", secret };
  const answer = await door.ask("/v1/jobs", { json: { service: "portrait", input: picture(), webhook } });
  if (answer.status === 400) expect(errorOf(answer).param).toBe("webhook.secret");
  return answer.status;
}

test("a secret has 24 to 64 bytes", async () => {
  for (const bytes of [24, 25, 26, 62, 63, 64]) expect(await takenWith(bytes), `${bytes} bytes`).toBe(202);
  for (const bytes of [22, 23, 65, 66, 67]) expect(await takenWith(bytes), `${bytes} bytes`).toBe(400);
});
