import fc from "fast-check";
import { expect, test } from "vitest";
import { deliveryOf, isResultId, resultIdOf, VISIBILITIES, visibilityOf } from "../../worker/results/delivery.ts";
import { completeService } from "../../worker/services/kinds.ts";
import { isRefusal } from "../../worker/refusal.ts";
import type { ServicePut } from "../../worker/services/service.ts";

const DAY_MS = 86_400_000;
const service = (results?: ServicePut["results"]) => completeService({ kind: "image", route: "/a/", results }, null);
const asked = (headers: Record<string, string>, results?: ServicePut["results"]) => {
  const delivery = deliveryOf(new Headers(headers), service(results), false);
  return isRefusal(delivery) ? `${delivery.reason} ${delivery.param}` : delivery;
};

test("without headers the service's settings apply", () => {
  expect(asked({})).toEqual({ lifeMs: 30 * DAY_MS, visibility: "signed" });
  expect(asked({}, { keep_days: 0.5, visibility: "private" })).toEqual({ lifeMs: DAY_MS / 2, visibility: "private" });
});

test("a service stored before visibilities existed means `signed`", () => {
  const { keep_days } = service().results;
  const old = { ...service(), results: { keep_days } } as ReturnType<typeof service>;
  expect(deliveryOf(new Headers(), old, false)).toEqual({ lifeMs: 30 * DAY_MS, visibility: "signed" });
});

test("X-Result-TTL accepts 1 s to the service's keep_days, in whole seconds", () => {
  expect(asked({ "x-result-ttl": "1" })).toMatchObject({ lifeMs: 1_000 });
  expect(asked({ "x-result-ttl": String(30 * 86_400) })).toMatchObject({ lifeMs: 30 * DAY_MS });
  for (const ttl of ["", "0", "-1", "1.5", "1e3", "+5", "0x10", "abc", "1, 2", String(30 * 86_400 + 1), "9".repeat(40)])
    expect(asked({ "x-result-ttl": ttl }), ttl).toBe("invalid_field X-Result-TTL");
});

test("X-Result-Visibility accepts only the three visibilities", () => {
  for (const visibility of VISIBILITIES)
    expect(asked({ "x-result-visibility": visibility }, { visibility: "private" })).toMatchObject({ visibility });
  for (const said of ["", "Public", "public, private", "open", "__proto__"])
    expect(asked({ "x-result-visibility": said }), said).toBe("invalid_field X-Result-Visibility");
});

test("a result id encodes its visibility, whatever its random part is", () => {
  fc.assert(
    fc.property(fc.constantFrom(...VISIBILITIES), fc.stringMatching(/^[0-9A-Za-z]{24}$/), (visibility, random) => {
      const id = resultIdOf(visibility, random);
      expect(isResultId(id)).toBe(true);
      expect(visibilityOf(id)).toBe(visibility);
    }),
  );
});
