/** A Cloudflare Access team for tests: it signs assertions and serves the public keys, or fails to. */
import { createServer } from "node:http";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";

export const AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";
/** Default lifetime of an assertion, in seconds. */
const LIFE_S = 300;

export interface Signing {
  kid?: string;
  alg?: string;
  /** Signs with a key that the team has not published. */
  foreign?: boolean;
}

export interface Broken {
  status: number;
  body: string;
}

export interface Team {
  issuer: string;
  /** How many times the keys were fetched. */
  asked(): number;
  /** Sets the answer of the key address: null serves the keys, `silence` never answers. */
  answer(broken: Broken | "silence" | null): void;
  /** Signs an assertion. `claims` override the usual ones; `undefined` removes one. */
  assertion(claims: JWTPayload, how?: Signing): Promise<string>;
  /** The published keys as JWKs. */
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
