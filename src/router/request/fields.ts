/** The top-level members of a body by name; their bytes, and small values parsed when asked for. */
import { valueBytes } from "./edit.ts";
import { scanObject, ScanError, type Member, type Scan } from "./scan.ts";

/** Values that are parsed are names, numbers, flags and small settings; 64 KiB of settings are parsed in 50 us. */
const MAX_PARSED_BYTES = 65_536;
/** Most names: a string without anything that JSON would read otherwise. */
const PLAIN = /^"[\w./:@ -]{0,128}"$/;

export class Fields {
  readonly #body: Buffer;
  readonly #members = new Map<string, Member>();
  /** A name that stands twice, where one does. Engines take the last of two, scanners the first. */
  readonly twice: string | undefined;

  constructor(body: Buffer, { members }: Pick<Scan, "members">) {
    this.#body = body;
    for (const member of members) {
      if (this.#members.has(member.key)) this.twice ??= member.key;
      this.#members.set(member.key, member);
    }
  }

  member(key: string): Member | undefined {
    return this.#members.get(key);
  }

  has(key: string): boolean {
    return this.#members.has(key);
  }

  raw(key: string): Buffer | undefined {
    const member = this.#members.get(key);
    return member === undefined ? undefined : valueBytes(this.#body, member);
  }

  /** First byte of the value as a character: `"`, `[`, `{`, ...; NUL where there is none. */
  first(key: string): string {
    return String.fromCharCode(this.raw(key)?.[0] ?? 0);
  }

  /** The parsed value; undefined where there is none, and where it is longer than 64 KiB. Throws SyntaxError. */
  value(key: string): unknown {
    const raw = this.raw(key);
    if (raw === undefined || raw.length > MAX_PARSED_BYTES) return undefined;
    const text = raw.toString("utf8");
    return PLAIN.test(text) ? text.slice(1, -1) : (JSON.parse(text) as unknown);
  }

  /** The members of an object that is a member; none where it is no object. Throws ScanError. */
  inside(key: string): Fields {
    const raw = this.raw(key);
    if (raw === undefined || this.first(key) !== "{") return NONE;
    const fields = new Fields(raw, scanObject(raw));
    if (fields.twice !== undefined) throw new ScanError(`"${fields.twice.slice(0, 64)}" given twice in ${key}`, 0);
    return fields;
  }
}

const NONE = new Fields(Buffer.alloc(0), { members: [] });
