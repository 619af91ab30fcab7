/** A Cloudflare Access team for tests: keys that sign, and an address that publishes them, or does not. */
import { createServer } from "node:http";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";

export const AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";
/** Of an assertion unless a test says otherwise, s. */
const LIFE_S = 300;

export interface Signing {
  kid?: string;
  alg?: string;
  /** A key that the team has not published. */
  foreign?: boolean;
}

export interface Broken {
  status: number;
  body: string;
}

export interface Team {
  issuer: string;
  /** How often the keys were asked for. */
  asked(): number;
  /** What the address answers from now on; null: the keys; `silence`: nothing, ever. */
  answer(broken: Broken | "silence" | null): void;
  /** An assertion of the team, with these claims beside the usual ones; `undefined` takes one away. */
  assertion(claims: JWTPayload, how?: Signing): Promise<string>;
  /** The published keys in the words of a JWKS. */
  published: object[];
  close(): void;
}

export async function startTeam(): Promise<Team> {
  const keys = new Map<string, { alg: string; key: CryptoKey; jwk: object }>();
  for (const [kid, alg] of [
    ["rsa", "RS256"],
    ["ec", "ES256"],
  ] as const) {
    const { privateKey, publicKey } = await generateKeyPair(alg);
    keys.set(kid, { alg, key: privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" } });
  }
  const foreign = (await generateKeyPair("RS256")).privateKey;
  const published = [...keys.values()].map(({ jwk }) => jwk);

  let asked = 0;
  let broken: Broken | "silence" | null = null;
  const server = createServer((request, response) => {
    if (request.url === "/cdn-cgi/access/certs") asked += 1;
    if (broken === "silence") return;
    const { status, body } = broken ?? { status: 200, body: JSON.stringify({ keys: published }) };
    response.writeHead(status, { "content-type": "application/json" }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  const issuer = `http://127.0.0.1:${address.port}`;

  return {
    issuer,
    published,
    asked: () => asked,
    answer: (next) => {
      broken = next;
    },
    assertion: async (claims, { kid = "rsa", alg, foreign: stranger = false } = {}) => {
      const own = keys.get(kid);
      const now = Math.floor(Date.now() / 1000);
      const usual = { aud: [AUDIENCE], iss: issuer, iat: now, nbf: now, exp: now + LIFE_S, type: "app" };
      const payload: JWTPayload = JSON.parse(JSON.stringify({ ...usual, ...claims }));
      const header = { alg: alg ?? own?.alg ?? "RS256", kid };
      return new SignJWT(payload).setProtectedHeader(header).sign(stranger || own === undefined ? foreign : own.key);
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
