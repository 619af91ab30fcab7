import fc from "fast-check";
import { expect, test } from "vitest";
import { WebOrigins } from "../../worker/caller/tenant.ts";

const takes = (...origins: string[]) => WebOrigins.safeParse(origins).success;

test("the origin of any web page is accepted, as a browser writes it", () => {
  const pages = fc.webUrl({ validSchemes: ["http", "https"], withFragments: true, withQueryParameters: true });
  const ports = fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: null });
  fc.assert(
    fc.property(pages, ports, (page, port) => {
      const url = new URL(page);
      if (port !== null) url.port = String(port);
      expect(takes(url.origin), url.origin).toBe(true);
    }),
  );
});

test("any accepted text is an origin that a browser would send, or the star alone", () => {
  const near = fc.stringMatching(/^(https?:\/\/)?[a-zA-Z0-9.:*@/?#[\]_-]{0,30}$/);
  fc.assert(
    fc.property(fc.oneof(near, fc.string(), fc.webUrl()), (text) => {
      if (takes(text) && text !== "*") expect(new URL(text).origin).toBe(text);
      expect(takes(text, "*")).toBe(false);
    }),
    { numRuns: 1_000 },
  );
});
