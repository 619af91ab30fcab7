/** Answers of a malicious or broken origin. Anything that must never reach a caller is marked `split`. */
import { gzipSync } from "node:zlib";
import { answerBytes, type Answering } from "../contract/origin.ts";

const ok = (lines: string, body = "{}") =>
  answerBytes(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${lines}\r\n${body}`);
const split = "HTTP/1.1 200 OK\r\nX-Split: yes\r\nContent-Length: 5\r\n\r\nsplit";
export const HOSTILE: Record<string, Answering> = {
  "a bare CR": ok("X-Own: a\rX-Split: yes\r\nContent-Length: 2\r\n"),
  "a bare LF": ok("X-Own: a\nX-Own-Too: b\nContent-Length: 2\r\n"),
  "a NUL": ok("X-Own: a\0X-Split: yes\r\nContent-Length: 2\r\n"),
  "70 KB": ok(`X-Own: ${"a".repeat(70_000)}\r\nContent-Length: 2\r\n`),
  "1 MB": ok(`X-Own: ${"a".repeat(1_000_000)}\r\nContent-Length: 2\r\n`),
  "5,000 lines": ok(`${Array.from({ length: 5_000 }, (_, i) => `X-${i}: a\r\n`).join("")}Content-Length: 2\r\n`),
  "a Connection that names a header": ok("Connection: X-Split\r\nX-Split: yes\r\nContent-Length: 2\r\n"),
  "chunks and a length": ok("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", `2\r\n{}\r\n0\r\n\r\n${split}`),
  "an unknown coding": ok("Transfer-Encoding: gzip, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
  "a length that is negative": ok("Content-Length: -1\r\n"),
  "a length twice": ok("Content-Length: 2\r\nContent-Length: 60\r\n", `{}${split}`),
  "a list of lengths": ok("Content-Length: 2, 60\r\n", `{}${split}`),
  "an answer behind the answer": ok("Content-Length: 2\r\n", `{}${split}`),
  trailers: ok(
    "Transfer-Encoding: chunked\r\nTrailer: X-Split\r\n",
    "2\r\n{}\r\n0\r\nX-Split: yes\r\nSet-Cookie: a=b\r\n\r\n",
  ),
  "a chunk size beyond all": ok("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
  "a folded line": ok("X-Own: a\r\n X-Split: yes\r\nContent-Length: 2\r\n"),
  "a blank before the colon": ok("X-Split : yes\r\nContent-Length: 2\r\n"),
  "no colon": ok("X-Split yes\r\nContent-Length: 2\r\n"),
  "an early hint": answerBytes(
    `HTTP/1.1 103 Early Hints\r\nX-Split: yes\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}`,
  ),
  "1,000 interim answers": answerBytes(
    "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000),
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
  ),
  "a switch of protocols": answerBytes(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: own\r\nConnection: Upgrade\r\n\r\n${split}`,
  ),
  "no content, with content": answerBytes(`HTTP/1.1 204 No Content\r\nContent-Length: 60\r\n\r\n${split}`),
  "not modified, with content": answerBytes(`HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n${split}`),
  "a status text with controls": answerBytes("HTTP/1.1 200 O\rX-Split: yes\r\nContent-Length: 2\r\n\r\n{}"),
  "no HTTP": answerBytes("220 own ESMTP\r\n"),
  nothing: answerBytes(""),
  "its own cookies and words of ours": ok(
    "Set-Cookie: a=b\r\nX-Request-Id: X-Split\r\nLink: <http://X-Split/>\r\nRefresh: 0;url=http://X-Split/\r\nContent-Length: 2\r\n",
  ),
  "gzip that is none": ok("Content-Encoding: gzip\r\nContent-Length: 2\r\n"),
  "gzip that is a bomb": (res) => {
    res.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
    res.end(gzipSync(Buffer.alloc(20_000_000)));
  },
};
