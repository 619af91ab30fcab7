/** How paths and inputs of fal's clients are read, without any network. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseCall, pathOfTarget } from "../../../worker/dialects/fal/paths.ts";
import { givenTo, nameIn } from "../../../worker/dialects/fal/words.ts";
import { DIALECTS_BY_KIND } from "../../../worker/services/kinds.ts";
import { type Task } from "../../../worker/dialects/mapping.ts";
import { isRefusal } from "../../../worker/refusal.ts";

const PICTURE = DIALECTS_BY_KIND.image.run as Task;
const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/).filter((text) => text !== "requests");
const path = fc.array(name, { maxLength: 3 }).map((parts) => parts.join("/"));

test("an app's id and path are read as clients write them, with or without a namespace", () => {
  fc.assert(
    fc.property(name, name, path, fc.constantFrom("", "workflows/", "comfy/"), (owner, app, below, space) => {
      fc.pre(owner !== "workflows" && owner !== "comfy");
      const whole = `${space}${owner}/${app}${below === "" ? "" : `/${below}`}`;
      const meant = { owner, name: app, path: below };
      expect(parseCall(`/fal/run/${whole}`)).toEqual({ kind: "run", app: meant });
      expect(parseCall(`/fal/queue/${whole}`)).toEqual({ kind: "submit", app: meant });
    }),
  );
});

test("a request is addressed below its app, whatever path it was submitted at", () => {
  const app = { owner: "a", name: "b", path: "" };
  for (const [tail, kind] of [
    ["", "result"],
    ["/response", "result"],
    ["/status", "status"],
    ["/status/stream", "stream"],
    ["/cancel", "cancel"],
  ])
    expect(parseCall(`/fal/queue/a/b/requests/job_1${tail}`)).toEqual({ kind, app, id: "job_1" });
  for (const tail of ["/other", "/status/x", "/constructor"])
    expect(parseCall(`/fal/queue/a/b/requests/job_1${tail}`)).toBeNull();
});

test("paths outside the dialect are not calls of it", () => {
  fc.assert(
    fc.property(fc.webPath(), (text) => {
      fc.pre(!text.startsWith("/fal/"));
      expect(parseCall(text)).toBeNull();
    }),
  );
});

test("a target URL is refused, or becomes a path below /fal/run/", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.webUrl(),
        fc.string(),
        fc.webPath().map((text) => `https://fal.run${text}`),
      ),
      (text) => {
        const own = pathOfTarget(text);
        if (isRefusal(own)) expect(own).toMatchObject({ reason: "invalid_field", param: "x-fal-target-url" });
        else expect([new URL(text).protocol, own.startsWith("/fal/run/")]).toEqual(["https:", true]);
      },
    ),
  );
});

test("fal's field names are translated to the mapping's, unless the caller also gives the origin's", () => {
  expect(givenTo(PICTURE, { prompt: "x", image_size: "landscape_4_3", num_images: 2, sync_mode: true })).toEqual({
    prompt: "x",
    size: "1024x768",
    n: 2,
  });
  expect(givenTo(PICTURE, { num_inference_steps: 9, steps: 3 })).toEqual({ num_inference_steps: 9, steps: 3 });
  const own: Task = { ...PICTURE, fields: [{ from: "num_images", to: "count" }] };
  expect(givenTo(own, { num_images: 2 })).toEqual({ num_images: 2 });
});

test("an invalid field is named as the caller wrote it", () => {
  expect(nameIn({ num_inference_steps: 1 }, "steps")).toBe("num_inference_steps");
  expect(nameIn({ steps: 1 }, "steps")).toBe("steps");
  expect(nameIn({}, "width")).toBe("width");
});
