/** `bounds` and `forbid`, checked before a slot is taken. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";
import { answerEcho, answerImage, type Answering, listOrigin, Origin, PNG } from "./origin.ts";

const door = doorway();
let origin: Origin;
const SOUND: Answering = (res) => res.writeHead(200, { "content-type": "audio/pcm" }).end(Buffer.alloc(200));
const URLENCODED = { "content-type": "application/x-www-form-urlencoded" };
const MULTIPART = { "content-type": "multipart/form-data; boundary=x" };

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/p/" });
  await listOrigin(door, origin, "sounds", { kind: "tts", route: "/s/" });
  const bounds = { "nested.count": 3, note: 4 };
  const forbid = ["danger", "whole*"];
  await listOrigin(door, origin, "own", { kind: "http", route: "/own/", bounds, forbid });
});
afterEach(() => {
  origin.seen.length = 0;
});
afterAll(() => origin.close());

const paint = (json: object, path = "txt2img") => {
  origin.answering = answerImage;
  return door.ask(`/p/${path}`, { json: picture(json) });
};
const speak = (json: object) => {
  origin.answering = SOUND;
  return door.ask("/s/audio-generate", { json });
};
const infer = (path: string, body: string, headers: Record<string, string>) => {
  origin.answering = SOUND;
  return door.ask(`/s/${path}`, { body, headers });
};
const own = (json: object) => {
  origin.answering = answerEcho;
  return door.ask("/own/x", { json });
};
const send = (type: string | null, body: string | Buffer) => {
  origin.answering = SOUND;
  return door.ask("/own/x", { body, headers: type === null ? {} : { "content-type": type } });
};
/** A body too large to buffer. */
const large = (start: string) => Buffer.concat([Buffer.from(start), Buffer.alloc(9_000_000, " ")]);
const part = (name: string, value: string, more = "") =>
  `--x\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`;

function expectRefused(answer: Answer, param: RegExp | string): void {
  expect(refusalOf(answer)).toBe("400 invalid_request invalid_request_error invalid_field");
  expect(errorOf(answer).param).toMatch(param);
  expect(errorOf(answer).started).toBe("no");
  expect(origin.seen).toHaveLength(0);
}

describe("default bounds of an image service:", () => {
  const MOST = { width: 2048, height: 2048, steps: 150, batch_size: 8, n_iter: 4 };
  for (const [field, most] of Object.entries(MOST)) {
    test(`${field} may be at most ${most}`, async () => {
      expectOk(await paint({ [field]: most }));
      origin.seen.length = 0;
      expectRefused(await paint({ [field]: most + 1 }), field);
      expectRefused(await paint({ [field]: most + 0.001 }), field);
      expectRefused(await paint({ [field]: 1e300 }), field);
    });

    test(`${field} of the wrong type is refused`, async () => {
      const values = [
        "8192",
        "1e9",
        "8_192",
        "８１９２",
        "abc",
        "0x2000",
        " 8192 ",
        "Infinity",
        true,
        [8192],
        [],
        { value: 8192 },
        {},
      ];
      for (const value of values) {
        const answer = await paint({ [field]: value });
        expect(answer.status, JSON.stringify(value)).toBe(400);
        expectRefused(answer, field);
      }
    });
  }

  test("apply to img2img as well", async () => {
    expectRefused(await paint({ width: 4096, init_images: [PNG] }, "img2img"), "width");
    expectOk(await paint({ init_images: [PNG] }, "img2img"));
  });

  test("do not restrict other fields", async () => {
    expectOk(await paint({ cfg_scale: 99_999, seed: 2 ** 40, hr_scale: "2" }));
  });

  test("cannot be bypassed with another content type", async () => {
    const body = JSON.stringify(picture({ width: 8192 }));
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/octet-stream",
      "application/vnd.api+json",
      "APPLICATION/JSON",
      "",
    ]) {
      origin.answering = answerImage;
      const answer = await door.ask("/p/txt2img", { body, headers: { "content-type": type } });
      expect([400, 415], type).toContain(answer.status);
      expect(origin.seen).toHaveLength(0);
    }
    const untyped = await door.ask("/p/txt2img", { body });
    expect([400, 415]).toContain(untyped.status);
    expect(origin.seen).toHaveLength(0);
  });
});

describe("fields that an image service forbids by default:", () => {
  const FORBIDDEN: [field: string, value: unknown][] = [
    ["override_settings", { sd_model_checkpoint: "other" }],
    ["override_settings", { CLIP_stop_at_last_layers: 2 }],
    ["override_settings", "x"],
    ["override_settings", [1]],
    ["script_name", "Ultimate SD upscale"],
    ["script_name", 1],
    ["alwayson_scripts", { ControlNet: { args: [] } }],
    ["alwayson_scripts", [0]],
  ];
  for (const [field, value] of FORBIDDEN) {
    test(`${field} ${JSON.stringify(value)}`, async () => {
      expectRefused(await paint({ [field]: value }), field);
      expectRefused(await paint({ [field]: value, init_images: [PNG] }, "img2img"), field);
    });
  }

  test("init_images by URL, with any scheme", async () => {
    const urls = [
      "http://127.0.0.1/x",
      "https://example.com/a.png",
      "HTTP://EXAMPLE.COM",
      "file:///etc/passwd",
      "ftp://x/y",
      " http://x",
    ];
    for (const url of urls) {
      expectRefused(await paint({ init_images: [url] }, "img2img"), "init_images");
      expectRefused(await paint({ init_images: [PNG, url] }, "img2img"), "init_images");
    }
  });

  test("but init_images as data are accepted", async () => {
    for (const image of [PNG, `data:image/png;base64,${PNG}`])
      expectOk(await paint({ init_images: [image] }, "img2img"));
  });
});

describe("default bounds of a sound service:", () => {
  const long = "好".repeat(5_001);

  test("text has at most 5000 characters, counted as code points", async () => {
    expectOk(await speak({ text: "a".repeat(5_000) }));
    expectOk(await speak({ text: "好".repeat(5_000) }));
    expectOk(await speak({ text: "😀".repeat(5_000) }));
    origin.seen.length = 0;
    expectRefused(await speak({ text: "a".repeat(5_001) }), "text");
    expectRefused(await speak({ text: long }), "text");
  });

  test("text of the wrong type is refused", async () => {
    for (const text of [5, true, ["a"], [long], { text: long }]) expectRefused(await speak({ text }), "text");
  });

  test("a text that looks like a number is accepted", async () => {
    expectOk(await speak({ text: "20261121" }));
  });

  test("tts_text is bounded in every form encoding", async () => {
    const name = "tts_text";
    expectOk(await infer("inference_sft", `${name}=hello&spk_id=a`, URLENCODED));
    expectOk(await infer("inference_sft", `${part(name, "hello")}${part("spk_id", "a")}--x--\r\n`, MULTIPART));
    origin.seen.length = 0;
    expectRefused(await infer("inference_sft", `${name}=${encodeURIComponent(long)}&spk_id=a`, URLENCODED), name);
    expectRefused(
      await infer("inference_sft", `${name}=a&spk_id=a&${name}=${encodeURIComponent(long)}`, URLENCODED),
      name,
    );
    expectRefused(await infer("inference_sft", `%74ts_text=${encodeURIComponent(long)}`, URLENCODED), name);
    expectRefused(await infer("inference_sft", `${part(name, long)}--x--\r\n`, MULTIPART), name);
    expectRefused(await infer("inference_sft", `${part(name, "a")}${part(name, long)}--x--\r\n`, MULTIPART), name);
    expectRefused(await infer("inference_sft", `${part(name, long, '; filename="a.txt"')}--x--\r\n`, MULTIPART), name);
  });

  test("a malformed form causes no 5xx, and a form without a boundary gets 400", async () => {
    for (const body of [
      "",
      "no form",
      "--x\r\n\r\n",
      '--x\r\nContent-Disposition: form-data; name="tts_text"\r\n\r\nhello',
    ]) {
      const answer = await infer("inference_sft", body, MULTIPART);
      expect(answer.status, JSON.stringify(body)).toBeLessThan(500);
    }
    const boundless = await infer("inference_sft", "x", { "content-type": "multipart/form-data" });
    expect(boundless.status).toBe(400);
  });
});

describe("a service's own rules:", () => {
  test("bound numbers and texts, also in nested objects", async () => {
    expectOk(await own({ nested: { count: 3 }, note: "four" }));
    origin.seen.length = 0;
    expectRefused(await own({ nested: { count: 4 } }), "nested.count");
    expectRefused(await own({ note: "fifth" }), "note");
  });

  test("forbid a field, and with a trailing * the whole object", async () => {
    expectRefused(await own({ danger: 1 }), "danger");
    expectRefused(await own({ danger: "" }), "danger");
    expectRefused(await own({ whole: { anything: 0 } }), "whole");
    expectOk(await own({ dangerous: 1, wholesome: 1 }));
  });

  describe("apply to JSON under any content type:", () => {
    const TYPES = [null, "text/plain", "text/json", "application/octet-stream", "application/json5", "nonsense"];
    for (const type of TYPES) {
      test(String(type), async () => {
        expectRefused(await send(type, '{"danger":1}'), "danger");
        expectRefused(await send(type, ' \n{"nested":{"count":4}}'), "nested.count");
        expectRefused(await send(type, '\ufeff{"danger":1}'), "danger");
        expectOk(await send(type, '{"dangerous":1}'));
      });
    }

    test("also when it is too large to buffer", async () => {
      expectRefused(await send("text/plain", large('{"danger":1}')), "danger");
      expectRefused(await send("text/plain", Buffer.concat([large(""), Buffer.from('{"danger":1}')])), "danger");
      expectOk(await send("text/plain", large('{"dangerous":1}')));
      origin.seen.length = 0;
      const text = large('say {"danger":1}');
      expectOk(await send("text/plain", text));
      expect(origin.taken().body.equals(text)).toBe(true);
    });

    test("a body that starts as an object but is not valid JSON gets 400, as an origin may still read it", async () => {
      for (const body of ['{"a":NaN,"danger":1}', Buffer.from('{"danger":1}', "utf16le")]) {
        expect((await send("text/plain", body)).status).toBe(400);
        expect(origin.seen).toHaveLength(0);
      }
    });

    test("a body that does not start as a JSON object passes unchanged", async () => {
      for (const body of ['say {"danger":1}', '["danger"]', "danger=1", ""]) {
        expectOk(await send("text/plain", body));
        expect(origin.taken().body.toString()).toBe(body);
      }
    });
  });

  test("apply within 10 s after they are changed", async () => {
    await door.portico.admin("PUT", "/services/own", { bounds: { note: 10 } });
    const start = performance.now();
    let answer = await own({ note: "sixth...." });
    while (answer.status !== 200 && performance.now() - start < 10_000) answer = await own({ note: "sixth...." });
    expectOk(answer);
    origin.seen.length = 0;
    expectRefused(await own({ note: "more than ten" }), "note");
  });
});

test("a request refused for a field takes no slot and starts no run", async () => {
  const before = door.starts();
  expect((await door.paint({ width: 4096 })).status).toBe(400);
  expect((await door.paint({ width: 4096 })).header("server-timing")).not.toContain("queue");
  expect(door.starts()).toBe(before);
});
