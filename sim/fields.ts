/** Reads a request's fields as FastAPI does: reports every invalid field with its location. Pure. */

export interface Detail {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

export class Fields {
  readonly details: Detail[] = [];
  readonly #source: Readonly<Record<string, unknown>>;

  constructor(source: Readonly<Record<string, unknown>>) {
    this.#source = source;
  }

  text(name: string, fallback: string): string {
    const value = this.#source[name] ?? fallback;
    if (typeof value === "string") return value;
    return this.#wrong(name, "str type expected", "type_error.str", fallback);
  }

  required(name: string): string {
    const value = this.#source[name];
    if (value === undefined || value === null || value === "")
      return this.#wrong(name, "field required", "value_error.missing", "");
    return this.text(name, "");
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = numberOf(this.#source[name] ?? fallback);
    if (value === null || !Number.isInteger(value))
      return this.#wrong(name, "value is not a valid integer", "type_error.integer", fallback);
    return this.#bounded(name, value, least, most);
  }

  number(name: string, fallback: number, least: number, most: number): number {
    const value = numberOf(this.#source[name] ?? fallback);
    if (value === null) return this.#wrong(name, "value is not a valid float", "type_error.float", fallback);
    return this.#bounded(name, value, least, most);
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.#source[name] ?? fallback;
    if (typeof value === "boolean") return value;
    return this.#wrong(name, "value could not be parsed to a boolean", "type_error.bool", fallback);
  }

  /** One of a few words; the first one if absent. */
  choice<T extends string>(name: string, from: readonly [T, ...T[]]): T {
    const value = this.#source[name] ?? from[0];
    return (
      from.find((word) => word === value) ??
      this.#wrong(
        name,
        `value is not a valid enumeration member; permitted: ${from.join(", ")}`,
        "type_error.enum",
        from[0],
      )
    );
  }

  texts(name: string): readonly string[] {
    const value = this.#source[name] ?? [];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    return this.#wrong(name, "value is not a valid list of str", "type_error.list", []);
  }

  wrong(name: string, msg: string, type: string): void {
    this.details.push({ loc: ["body", name], msg, type });
  }

  #wrong<T>(name: string, msg: string, type: string, fallback: T): T {
    this.wrong(name, msg, type);
    return fallback;
  }

  #bounded(name: string, value: number, least: number, most: number): number {
    if (value < least)
      return this.#wrong(
        name,
        `ensure this value is greater than or equal to ${least}`,
        "value_error.number.not_ge",
        least,
      );
    if (value > most)
      return this.#wrong(name, `ensure this value is less than or equal to ${most}`, "value_error.number.not_le", most);
    return value;
  }
}

/** Accepts numbers, and strings that are plain numbers, as pydantic does. */
function numberOf(value: unknown): number | null {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (typeof value === "string" && /^[+-]?\d+(\.\d+)?$/.test(value.trim())) return Number(value);
  return null;
}

export type JsonObject =
  | { readonly ok: true; readonly value: Record<string, unknown> }
  | { readonly ok: false; readonly detail: Detail };

const NOT_AN_OBJECT: JsonObject = {
  ok: false,
  detail: { loc: ["body"], msg: "value is not a valid dict", type: "type_error.dict" },
};

/** The object in a JSON body. Like FastAPI, accepts only a JSON content type or none. */
export function jsonObject(body: Buffer, contentType: string | undefined): JsonObject {
  if (contentType !== undefined && !/^application\/([\w.+-]+\+)?json\b/i.test(contentType)) return NOT_AN_OBJECT;
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return isObject(value) ? { ok: true, value } : NOT_AN_OBJECT;
  } catch (error) {
    const msg = error instanceof Error ? error.message : "Expecting value";
    return { ok: false, detail: { loc: ["body", 0], msg, type: "value_error.jsondecode" } };
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
