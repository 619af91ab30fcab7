/**
 * Requests that two parsers might read differently, based on llhttp's tests, http-garden and common smuggling lists.
 * Most carry a second request inside; if that one ever runs, a request was smuggled.
 */

/** Distinguishes the first request from the one inside it at the origin. */
export interface Marks {
  /** The Host and Authorization lines. */
  own: string;
  first: string;
  inside: string;
}

type Builder = (marks: Marks) => string;

const inside = ({ own, inside: target }: Marks) => `GET ${target} HTTP/1.1\r\n${own}\r\n`;
const post =
  (framing: string, body: (marks: Marks) => string = () => ""): Builder =>
  (marks) =>
    `POST ${marks.first} HTTP/1.1\r\n${marks.own}${framing}\r\n${body(marks)}`;
/** A Content-Length that ends before the request inside, together with this line. */
const lengthThen = (line: string): Builder => post(`Content-Length: 5\r\n${line}`, (m) => `0\r\n\r\n${inside(m)}`);
/** Chunks that contain the request inside, and a Content-Length that ends within them. */
const chunksUnder = (line: string): Builder =>
  post(`Content-Length: 4\r\n${line}`, (m) => `${inside(m).length.toString(16)}\r\n${inside(m)}\r\n0\r\n\r\n`);
const chunked = (body: string): Builder => post("Transfer-Encoding: chunked\r\n", () => body);
const chunkedThen = (body: string): Builder => post("Transfer-Encoding: chunked\r\n", (m) => body + inside(m));
const get =
  (line: string): Builder =>
  (m) =>
    `GET ${m.first} HTTP/1.1\r\n${m.own}${line}\r\n`;
const asked =
  (requestLine: (target: string) => string): Builder =>
  (m) =>
    `${requestLine(m.first)}\r\n${m.own}\r\n`;

const ENCODINGS = {
  plain: "Transfer-Encoding: chunked\r\n",
  "a blank before the colon": "Transfer-Encoding : chunked\r\n",
  "a tab before it": "Transfer-Encoding\t: chunked\r\n",
  "a tab after it": "Transfer-Encoding:\tchunked\r\n",
  "a vertical tab": "Transfer-Encoding:\x0bchunked\r\n",
  "an unknown coding": "Transfer-Encoding: xchunked\r\n",
  "identity last": "Transfer-Encoding: chunked, identity\r\n",
  "identity first": "Transfer-Encoding: identity, chunked\r\n",
  "two headers": "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
  quoted: 'Transfer-Encoding: "chunked"\r\n',
  "upper case": "TRANSFER-ENCODING: CHUNKED\r\n",
  parameters: "Transfer-Encoding: chunked;q=1\r\n",
  "a NUL": "Transfer-Encoding: chunked\0\r\n",
  "a bare LF before": "X-A: b\nTransfer-Encoding: chunked\r\n",
  "a bare CR before": "X-A: b\rTransfer-Encoding: chunked\r\n",
  folded: "Transfer-Encoding:\r\n chunked\r\n",
  underscore: "Transfer_Encoding: chunked\r\n",
};
const LENGTHS = [
  "+5",
  "-1",
  "0x5",
  "5, 5",
  "5, 6",
  "5 5",
  "5;",
  " 5 ",
  "",
  "00005",
  "5e0",
  "٥",
  "99999999999999999999",
];
const SIZES = [
  "-1",
  "0x5",
  "+5",
  "5 ",
  " 5",
  "5_0",
  "",
  "g",
  "ffffffffffffffff",
  "10000000000000005",
  "0".repeat(40) + "5",
];
const HEADERS = {
  "a folded line": "X-A: b\r\n c\r\n",
  "no colon": "X-A b\r\n",
  "no name": ": b\r\n",
  "a blank in the name": "X A: b\r\n",
  "a NUL in the value": "X-A: a\0b\r\n",
  "a NUL in the name": "X\0A: b\r\n",
  "a control character": "X-A: a\x01b\r\n",
  "a bare CR in the value": "X-A: a\rb\r\n",
  "a bare LF in the value": "X-A: a\nX-B: c\r\n",
  "bytes beyond ASCII": "X-\xc3\xa4: \xff\r\n",
  "a second Host": "Host: other.example\r\n",
  "a Connection that names the key": "Connection: Authorization, Host\r\n",
  "an upgrade to h2c": "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
  "an upgrade to a socket":
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
  "an Expect that is none": "Expect: 200-ok\r\n",
  "70 KB": `X-A: ${"a".repeat(70_000)}\r\n`,
  "1,000 lines": Array.from({ length: 1_000 }, (_, i) => `X-${i}: a\r\n`).join(""),
};
const LINES: Record<string, (target: string) => string> = {
  "no version": (t) => `GET ${t}`,
  "HTTP/1.0": (t) => `GET ${t} HTTP/1.0`,
  "HTTP/2.0": (t) => `GET ${t} HTTP/2.0`,
  "HTTP/1.9": (t) => `GET ${t} HTTP/1.9`,
  "a small version": (t) => `GET ${t} http/1.1`,
  "more behind it": (t) => `GET ${t} HTTP/1.1 HTTP/1.1`,
  "two blanks": (t) => `GET  ${t}  HTTP/1.1`,
  tabs: (t) => `GET\t${t}\tHTTP/1.1`,
  "a blank before": (t) => ` GET ${t} HTTP/1.1`,
  "an empty line before": (t) => `\r\nGET ${t} HTTP/1.1`,
  "a bare LF before": (t) => `\nGET ${t} HTTP/1.1`,
  "a blank in the path": (t) => `GET ${t} b HTTP/1.1`,
  "a NUL in the path": (t) => `GET ${t}\0b HTTP/1.1`,
  "another host in it": (t) => `GET http://other.example${t} HTTP/1.1`,
  "an address in it": (t) => `GET http://127.0.0.1:1${t} HTTP/1.1`,
  "a scheme of its own": (t) => `GET file://${t} HTTP/1.1`,
  "a fragment": (t) => `GET ${t}#b HTTP/1.1`,
  "an asterisk": () => "OPTIONS * HTTP/1.1",
  "a method of its own": (t) => `G\0T ${t} HTTP/1.1`,
  "a small method": (t) => `get ${t} HTTP/1.1`,
  "no method": (t) => `${t} HTTP/1.1`,
  TRACE: (t) => `TRACE ${t} HTTP/1.1`,
  CONNECT: () => "CONNECT 127.0.0.1:80 HTTP/1.1",
  "64 KB of path": (t) => `GET ${t}${"a".repeat(65_000)} HTTP/1.1`,
};

function each<T extends string>(what: string, of: readonly T[], build: (value: T) => Builder): [string, Builder][] {
  return of.map((value) => [`${what} ${JSON.stringify(value).slice(0, 40)}`, build(value)]);
}

export const MALFORMED: [what: string, build: Builder][] = [
  ...Object.entries(ENCODINGS).map(([what, line]): [string, Builder] => [
    `a length and chunks, ${what}`,
    lengthThen(line),
  ]),
  ...Object.entries(ENCODINGS).map(([what, line]): [string, Builder] => [
    `chunks and a length, ${what}`,
    chunksUnder(line),
  ]),
  ...each("length", LENGTHS, (length) => post(`Content-Length: ${length}\r\n`, (m) => `hello${inside(m)}`)),
  ["two lengths", post("Content-Length: 5\r\nContent-Length: 100\r\n", (m) => `hello${inside(m)}`)],
  ["the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", () => "hello")],
  ["a length of 0 and a body", post("Content-Length: 0\r\n", inside)],
  [
    "a body on GET",
    (m) => `GET ${m.first} HTTP/1.1\r\n${m.own}Content-Length: ${inside(m).length}\r\n\r\n${inside(m)}`,
  ],
  ["chunks on GET", (m) => `GET ${m.first} HTTP/1.1\r\n${m.own}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  [
    "a body on HEAD",
    (m) => `HEAD ${m.first} HTTP/1.1\r\n${m.own}Content-Length: ${inside(m).length}\r\n\r\n${inside(m)}`,
  ],
  ...each("chunk size", SIZES, (size) => chunkedThen(`${size}\r\nhello\r\n0\r\n\r\n`)),
  ["a chunk longer than its size", chunkedThen("5\r\nhello world\r\n0\r\n\r\n")],
  ["a chunk without its end", chunkedThen("5\r\nhello0\r\n\r\n")],
  ["chunks with bare LF", chunkedThen("5\nhello\n0\n\n")],
  ["a size with bare LF", chunkedThen("5\nhello\r\n0\r\n\r\n")],
  ["an extension with bare LF", chunkedThen("5;a\nhello\r\n0\r\n\r\n")],
  ["an extension with a quote", chunkedThen('5;a="\r\nhello\r\n0\r\n\r\n')],
  ["64 KB of extension", chunked(`5;${"a".repeat(65_000)}\r\nhello\r\n0\r\n\r\n`)],
  ["a last chunk of 00", chunkedThen("5\r\nhello\r\n00\r\n\r\n")],
  ["trailers", chunkedThen("5\r\nhello\r\n0\r\nHost: other.example\r\nContent-Length: 99\r\nX-A: b\r\n\r\n")],
  ["a trailer with bare LF", chunkedThen("5\r\nhello\r\n0\r\nX-A: b\n\n")],
  [
    "chunks in HTTP/1.0",
    (m) => `POST ${m.first} HTTP/1.0\r\n${m.own}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${inside(m)}`,
  ],
  ...Object.entries(HEADERS).map(([what, line]): [string, Builder] => [`a header: ${what}`, get(line)]),
  ...Object.entries(LINES).map(([what, line]): [string, Builder] => [`a request line: ${what}`, asked(line)]),
  ["a first header line that is folded", (m) => `GET ${m.first} HTTP/1.1\r\n X-A: b\r\n${m.own}\r\n`],
  ["lines that end in bare LF", (m) => `GET ${m.first} HTTP/1.1\n${m.own.replaceAll("\r\n", "\n")}\n`],
  ["no Host", (m) => `GET ${m.first} HTTP/1.1\r\n${m.own.replace(/^Host:.*\r\n/m, "")}\r\n`],
  [
    "a Host that is none",
    (m) => `GET ${m.first} HTTP/1.1\r\n${m.own.replace(/^Host:.*\r\n/m, "Host: a b@c/d?e\r\n")}\r\n`,
  ],
  ["HTTP/2's first words", () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"],
  ["TLS", () => "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"],
  ["two requests at once", (m) => `GET ${m.first} HTTP/1.1\r\n${m.own}\r\n${inside(m)}`],
];

/** In these the second request is separate, either by any reading or by the runtime's, which is slightly lenient. */
export const PIPELINED = new Set([
  'chunk size "5 "',
  `chunk size "${"0".repeat(39)}`,
  "an extension with a quote",
  "two requests at once",
  "a length of 0 and a body",
  'length "00005"',
  'length " 5 "',
  "a last chunk of 00",
  "trailers",
  "a length and chunks, underscore",
  "chunks and a length, underscore",
]);
