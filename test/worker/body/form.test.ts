/** Forms that different servers could read differently. */
import { expect, test } from "vitest";
import { formRefusal } from "../../../worker/body/scan/multipart.ts";

const TYPE = 'multipart/form-data; boundary="b"';
const plain = async (text: string) => (await formRefusal(new Uint8Array(Buffer.from(text, "latin1")), TYPE)) === null;
const form = (...heads: string[]) => `${heads.map((head) => `--b\r\n${head}\r\n\r\nvalue\r\n`).join("")}--b--\r\n`;
const DISPOSITION = 'Content-Disposition: form-data; name="text"';

test("forms as clients make them are plain", async () => {
  const forms = [
    form(),
    form(DISPOSITION),
    form(DISPOSITION, `${DISPOSITION}; filename="a; name=b.wav"\r\nContent-Type: audio/wav`),
    form(`Content-Type: text/plain\r\n${DISPOSITION}`),
    form(DISPOSITION).replaceAll("\r\n", "\n"),
    form(DISPOSITION).trimEnd(),
    form(`${DISPOSITION}; filename="say \\"name=x\\"; name=y"`),
  ];
  for (const text of forms) expect(await plain(text), JSON.stringify(text)).toBe(true);
});

test("a form with an ambiguous part name or content outside its parts is not plain", async () => {
  const odd = [
    form(`Content-Disposition: form-data; name="other"\r\n${DISPOSITION}`),
    form(`${DISPOSITION}; name="other"`),
    form(`${DISPOSITION}; name*=UTF-8''other`),
    form("Content-Disposition: form-data; name*=UTF-8''other"),
    form(`${DISPOSITION};\r\n name="other"`),
    `before\r\n${form(DISPOSITION)}`,
    `${form(DISPOSITION)}--b\r\n${DISPOSITION}\r\n\r\nvalue\r\n--b--\r\n`,
    `${form(DISPOSITION)}after`,
    form(DISPOSITION).replace("--b--", ""),
    "value",
  ];
  for (const text of odd) expect(await plain(text), JSON.stringify(text)).toBe(false);
});
