/** The entry points of the fal dialect: the proxy's targets, access, and unknown paths. */
import { expect, test } from "vitest";
import { doorway, expectOk } from "../contract/doorway.ts";
import { Origin } from "../contract/origin.ts";
import { begun, submitted } from "../jobs/shown.ts";
import { fal, raised, SMALL } from "./fal-client.ts";

const door = doorway({ speed: 1 });
const APP = "portico/portrait";

const proxied = (target: string | string[], more = {}) =>
  door.ask("/fal/proxy", { json: { prompt: "x", ...SMALL }, headers: { "x-fal-target-url": target }, ...more });

const fault = (text: string) => JSON.parse(text) as { detail: unknown; message: string; error_type: string };

test("the proxy accepts only fal's three hosts, compared literally, and fetches nothing", async () => {
  const inside = await Origin.open();
  const own = new URL(door.portico.url).host;
  try {
    for (const target of [
      `${inside.url}/${APP}`,
      `http://fal.run/${APP}`,
      `https://fal.run.evil.example/${APP}`,
      `https://evil-fal.run/${APP}`,
      `https://sub.fal.run/${APP}`,
      `https://fal.run:8443/${APP}`,
      `https://fal.run@${own}/${APP}`,
      `https://user:secret@fal.run/${APP}`,
      `https://fal.run.@${own}/${APP}`,
      `https://fal.run\\@${own}/${APP}`,
      `https://fal.run%2f@${own}/${APP}`,
      `https://FAL.RUN./${APP}`,
      `//fal.run/${APP}`,
      `https:fal.run/${APP}`,
      ` file:///etc/passwd`,
      `https://169.254.169.254/latest`,
      `https://${own}/fal/run/${APP}`,
      "",
    ]) {
      const answer = await proxied(target);
      expect([target, answer.status, answer.header("x-portico-card")]).toEqual([target, 422, null]);
      expect(fault(answer.text).detail).toMatchObject([{ loc: ["body", "x-fal-target-url"] }]);
    }
    expect(inside.seen).toEqual([]);
  } finally {
    inside.close();
  }
});

test("a proxied path cannot leave the dialect", async () => {
  for (const path of [
    "/../../admin/v1/keys",
    "/..%2f..%2fadmin",
    "/%2e%2e/%2e%2e/v1/models",
    "//v1/models",
    "/./x/y",
  ]) {
    const { status, text } = await proxied(`https://fal.run${path}`);
    expect([path, status]).toEqual([path, 400]);
    expect(fault(text).message).toBeTypeOf("string");
  }
  for (const path of ["/portico", "/admin/v1/keys", "/portico/nobody", "/evil/portrait"])
    expect((await proxied(`https://fal.run${path}`)).status).toBe(404);
  for (const path of ["/proxy", "/.well-known/jwks.json", "/storage/other"])
    expect((await proxied(`https://rest.fal.ai${path}`)).status).toBe(404);
});

test("the proxy passes on method, body and key, and its answers are not cacheable", async () => {
  const done = expectOk(await proxied(`https://fal.run/${APP}`));
  expect(done.header("cache-control")).toBe("no-store");
  expect(done.header("x-fal-request-id")).toMatch(/^req_/);
  const get = await door.ask("/fal/proxy", { headers: { "x-fal-target-url": `https://fal.run/${APP}` } });
  expect([get.status, get.header("allow")]).toEqual([405, "POST"]);
  expect((await proxied(`https://fal.run/${APP}`, { key: null })).status).toBe(401);
  const none = await door.ask("/fal/proxy", { json: {} });
  expect(none.status).toBe(422);
});

test("an unknown app gets 404 in fal's words", async () => {
  for (const app of ["portico/nobody", "fal-ai/flux", "nobody/portrait"]) {
    const error = await raised(fal(door).run(app, { input: { prompt: "x" } }));
    expect(error).toMatchObject({ name: "ApiError", status: 404, message: `Application '${app}' not found` });
    expect(error.body.detail).toBe(error.message);
  }
  expect((await raised(fal(door).run(`${APP}/options`, { input: {} }))).status).toBe(404);
  expect((await door.ask("/fal/nothing")).status).toBe(404);
});

test("errors are JSON with detail and message, never problem+json", async () => {
  const accept = { accept: "application/problem+json" };
  for (const answer of [
    await door.ask(`/fal/run/${APP}`, { json: { prompt: "x" }, key: null, headers: accept }),
    await door.ask(`/fal/run/${APP}`, { body: "{", headers: { ...accept, "content-type": "application/json" } }),
    await door.ask(`/fal/run/${APP}`, { body: "x", headers: { ...accept, "content-type": "text/plain" } }),
    await door.ask("/fal/run/portico/nobody", { json: {}, headers: accept }),
  ]) {
    expect(answer.header("content-type")).toBe("application/json");
    expect(fault(answer.text)).toMatchObject({ message: expect.any(String), detail: expect.anything() });
  }
});

test("an invalid header value is refused with the header's name", async () => {
  for (const [name, value] of [
    ["x-fal-queue-priority", "urgent"],
    ["x-fal-request-timeout", "0"],
    ["x-fal-request-timeout", "soon"],
    ["x-fal-object-lifecycle-preference", "{"],
    ["x-fal-object-lifecycle-preference", '{"expiration_duration_seconds":-1}'],
  ] as const) {
    const { status, text } = await door.ask(`/fal/queue/${APP}`, { json: { prompt: "x" }, headers: { [name]: value } });
    expect([status, fault(text).detail]).toMatchObject([422, [{ loc: ["body", name] }]]);
  }
  const { status } = await door.ask(`/fal/queue/${APP}`, {
    json: { prompt: "x", ...SMALL },
    headers: { "x-fal-object-lifecycle-preference": '{"expiration_duration_seconds":3600,"initial_acl":"private"}' },
  });
  expect(status).toBe(200);
});

test("requests of other tenants or apps get 404, and a native job is a fal request too", async () => {
  const id = await submitted(door, { service: "portrait", input: { prompt: "x", width: 32, height: 32, steps: 1 } });
  const done = await fal(door).queue.subscribeToStatus(APP, { requestId: id });
  expect(done).toMatchObject({ status: "COMPLETED", request_id: id });
  expect((await fal(door).queue.result(APP, { requestId: id })).data).toHaveProperty("images");
  const stranger = await door.key();
  for (const tail of ["", "/status", "/status/stream"]) {
    expect((await door.ask(`/fal/queue/${APP}/requests/${id}${tail}`, { key: stranger })).status).toBe(404);
    expect((await door.ask(`/fal/queue/portico/cosyvoice2/requests/${id}${tail}`)).status).toBe(404);
  }
  const canceled = await door.ask(`/fal/queue/${APP}/requests/${id}/cancel`, { method: "PUT", key: stranger });
  expect(canceled.status).toBe(404);
});

test("scopes are enforced, and either `infer` or `jobs` allows uploads", async () => {
  const [infer, jobs, usage] = await Promise.all(
    ["infer", "jobs", "usage"].map((scope) => door.key({ scopes: [scope] })),
  );
  const json = { prompt: "x", ...SMALL };
  const status = async (target: string, key = "") => (await door.ask(target, { json, key })).status;
  expect([await status(`/fal/run/${APP}`, infer), await status(`/fal/run/${APP}`, jobs)]).toEqual([200, 403]);
  expect([await status(`/fal/queue/${APP}`, infer), await status(`/fal/queue/${APP}`, jobs)]).toEqual([403, 200]);
  const initiate = "/fal/rest/storage/upload/initiate";
  expect(await Promise.all([infer, jobs, usage].map((key) => status(initiate, key)))).toEqual([200, 200, 403]);
});

test("a reader that leaves a status stream does no harm", async () => {
  const { request_id: requestId } = await fal(door).queue.submit(APP, {
    input: { prompt: "x", image_size: { width: 768, height: 768 }, num_inference_steps: 100 },
  });
  await begun(door, requestId);
  const stream = await fal(door, "requestMiddleware").queue.streamStatus(APP, { requestId });
  stream.abort();
  await fal(door).queue.cancel(APP, { requestId });
  expect((await fal(door).queue.status(APP, { requestId })).status).toBe("COMPLETED");
});
