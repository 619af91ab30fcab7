import { expect, test } from "vitest";
import { greeting } from "../../local/greeting.ts";

const ready = { url: "http://127.0.0.1:8787", key: null, picture: null, sound: null };

test("the greeting shows the command that watches this instance", () => {
  expect(greeting({ ...ready, stateDir: "/clone/.portico" }, "/clone")).toMatch(
    /^ {2}Watch it +npx portico status --watch$/m,
  );
  expect(greeting({ ...ready, stateDir: "/clone/.two" }, "/clone")).toMatch(
    /^ {2}Watch it +STATE_DIR=\.two npx portico status --watch$/m,
  );
});
