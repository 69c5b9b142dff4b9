/** The syntax tree of an RE2 pattern; see `pattern.ts`. */

/** What RE2 would refuse; the message names the place. */
export class PatternError extends Error {}

export type Term =
  | { readonly kind: "char"; readonly test: (code: number) => boolean }
  | { readonly kind: "assert"; readonly test: (text: string, at: number) => boolean }
  | { readonly kind: "sequence" | "choice"; readonly parts: readonly Term[] }
  | { readonly kind: "repeat"; readonly part: Term; readonly min: number; readonly max: number };

type Test = (code: number) => boolean;

/** RE2 refuses counts above 1000. */
const MAX_COUNT = 1000;
/** Nested groups; a pattern of node names has two or three. */
const MAX_DEPTH = 100;

export const parsePattern = (pattern: string): Term => new Parser(pattern).whole();

const range = (from: string, to: string): Test => {
  const [low, high] = [from.charCodeAt(0), to.charCodeAt(0)];
  return (code) => code >= low && code <= high;
};
const either =
  (...tests: readonly Test[]): Test =>
  (code) =>
    tests.some((test) => test(code));
const not =
  (test: Test): Test =>
  (code) =>
    !test(code);
const is = (char: string): Test => {
  const wanted = char.charCodeAt(0);
  return (code) => code === wanted;
};

const DIGIT = range("0", "9");
const LOWER = range("a", "z");
const UPPER = range("A", "Z");
const WORD = either(DIGIT, LOWER, UPPER, is("_"));
const SPACE = either(is(" "), is("\t"), is("\n"), is("\r"), is("\f"));

const PERL: Readonly<Record<string, Test>> = {
  d: DIGIT,
  D: not(DIGIT),
  w: WORD,
  W: not(WORD),
  s: SPACE,
  S: not(SPACE),
};

const POSIX: Readonly<Record<string, Test>> = {
  alnum: either(DIGIT, LOWER, UPPER),
  alpha: either(LOWER, UPPER),
  ascii: range("\0", "\x7f"),
  blank: either(is(" "), is("\t")),
  cntrl: either(range("\0", "\x1f"), is("\x7f")),
  digit: DIGIT,
  graph: range("!", "~"),
  lower: LOWER,
  print: range(" ", "~"),
  punct: either(range("!", "/"), range(":", "@"), range("[", "`"), range("{", "~")),
  space: either(SPACE, is("\v")),
  upper: UPPER,
  word: WORD,
  xdigit: either(DIGIT, range("a", "f"), range("A", "F")),
};

const CONTROL: Readonly<Record<string, string>> = { a: "\x07", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

const isWordAt = (text: string, at: number): boolean => at >= 0 && at < text.length && WORD(text.charCodeAt(at));
const atBoundary = (text: string, at: number): boolean => isWordAt(text, at - 1) !== isWordAt(text, at);
const atStart = (_: string, at: number): boolean => at === 0;
const atEnd = (text: string, at: number): boolean => at === text.length;

const ASSERT: Readonly<Record<string, (text: string, at: number) => boolean>> = {
  A: atStart,
  z: atEnd,
  b: atBoundary,
  B: (text, at) => !atBoundary(text, at),
};

const SIMPLE_BOUNDS: Readonly<Record<string, { min: number; max: number }>> = {
  "*": { min: 0, max: Infinity },
  "+": { min: 1, max: Infinity },
  "?": { min: 0, max: 1 },
};

class Parser {
  #at = 0;
  #depth = 0;
  /** Flags in force: `i` (fold case), `m` (lines), `s` (dot matches newline), `U` (no effect on whether it matches). */
  #flags = new Set<string>();
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): Term {
    const term = this.#choice();
    if (this.#at < this.#text.length) this.#fail("unexpected )");
    return term;
  }

  #fail(why: string): never {
    throw new PatternError(`${why} at character ${this.#at + 1}`);
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #match(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#text) ?? undefined;
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  #next(): string {
    return this.#text[this.#at++] ?? this.#fail("unexpected end");
  }

  #choice(): Term {
    if (++this.#depth > MAX_DEPTH) this.#fail("nested too deeply");
    const flags = new Set(this.#flags);
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    this.#flags = flags;
    this.#depth--;
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : { kind: "choice", parts };
  }

  #sequence(): Term {
    const parts: Term[] = [];
    while (this.#at < this.#text.length && !/[|)]/.test(this.#text[this.#at] ?? "")) {
      if (this.#take("\\Q")) parts.push(...this.#quoted());
      else parts.push(this.#repeated(this.#atom()));
    }
    return { kind: "sequence", parts };
  }

  #quoted(): Term[] {
    const end = this.#text.indexOf("\\E", this.#at);
    const literal = this.#text.slice(this.#at, end === -1 ? undefined : end);
    this.#at += literal.length + (end === -1 ? 0 : 2);
    return Array.from(literal, (char) => this.#char(is(char)));
  }

  #repeated(part: Term): Term {
    const bounds = this.#bounds();
    if (bounds === undefined) return part;
    this.#take("?");
    if (this.#bounds() !== undefined) this.#fail("repetition of a repetition");
    return { kind: "repeat", part, ...bounds };
  }

  #bounds(): { min: number; max: number } | undefined {
    const simple = this.#match(/[*+?]/y);
    if (simple !== undefined) return SIMPLE_BOUNDS[simple[0]];
    const counted = this.#match(/\{(\d+)(?:(,)(\d*))?\}/y);
    if (counted === undefined) return undefined;
    const [, low, comma, high] = counted;
    const min = Number(low);
    const max = comma === undefined ? min : high === "" ? Infinity : Number(high);
    if (min > MAX_COUNT || (max !== Infinity && max > MAX_COUNT) || max < min) this.#fail("bad repetition count");
    return { min, max };
  }

  #char(test: Test): Term {
    if (!this.#flags.has("i")) return { kind: "char", test };
    const flip = (code: number): number => (LOWER(code) ? code - 32 : UPPER(code) ? code + 32 : code);
    return { kind: "char", test: (code) => test(code) || test(flip(code)) };
  }

  #atom(): Term {
    const char = this.#next();
    switch (char) {
      case "(":
        return this.#group();
      case "[":
        return this.#char(this.#class());
      case ".":
        return { kind: "char", test: this.#flags.has("s") ? () => true : not(is("\n")) };
      case "^":
        return { kind: "assert", test: this.#lineAware(atStart, -1) };
      case "$":
        return { kind: "assert", test: this.#lineAware(atEnd, 0) };
      case "\\":
        return this.#escape();
      default:
        return /[*+?]/.test(char) ? this.#fail("nothing to repeat") : this.#char(is(char));
    }
  }

  #lineAware(test: (text: string, at: number) => boolean, offset: number): (text: string, at: number) => boolean {
    if (!this.#flags.has("m")) return test;
    return (text, at) => test(text, at) || text[at + offset] === "\n";
  }

  #group(): Term {
    if (this.#text[this.#at] === "?") {
      const flags = this.#match(/\?([imsU]*)(?:-([imsU]+))?([:)])/y);
      if (flags !== undefined) return this.#flagged(flags);
      if (this.#match(/\?P?<\w+>/y) === undefined) this.#fail("look-around and other extensions are not in RE2");
    }
    return this.#closed(this.#choice());
  }

  #closed(term: Term): Term {
    if (!this.#take(")")) this.#fail("missing )");
    return term;
  }

  #flagged([, on = "", off = "", end]: RegExpExecArray): Term {
    const before = new Set(this.#flags);
    for (const flag of on) this.#flags.add(flag);
    for (const flag of off) this.#flags.delete(flag);
    if (end === ")") return { kind: "sequence", parts: [] };
    const term = this.#closed(this.#choice());
    this.#flags = before;
    return term;
  }

  #escape(): Term {
    const char = this.#next();
    const assertion = ASSERT[char];
    if (assertion !== undefined) return { kind: "assert", test: assertion };
    const test = PERL[char];
    return this.#char(test ?? is(this.#literal(char)));
  }

  /** The character an escape stands for. */
  #literal(char: string): string {
    if (/[^A-Za-z0-9]/.test(char)) return char;
    const control = CONTROL[char];
    if (control !== undefined) return control;
    const code = char === "x" ? this.#match(/\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2})/y) : undefined;
    if (code === undefined) return this.#fail(`escape \\${char} is not supported`);
    return String.fromCharCode(parseInt(code[1] ?? code[2] ?? "", 16));
  }

  #class(): Test {
    const negated = this.#take("^");
    const tests: Test[] = [];
    for (let first = true; first || this.#text[this.#at] !== "]"; first = false) tests.push(this.#classItem());
    this.#at++;
    return negated ? not(either(...tests)) : either(...tests);
  }

  #classItem(): Test {
    const posix = this.#match(/\[:(\^?)(\w+):\]/y);
    if (posix !== undefined) {
      const test = POSIX[posix[2] ?? ""] ?? this.#fail(`unknown class ${posix[0]}`);
      return posix[1] === "^" ? not(test) : test;
    }
    const from = this.#classChar();
    if (typeof from !== "string") return from;
    if (this.#match(/-(?!\])/y) === undefined) return is(from);
    const to = this.#classChar();
    if (typeof to !== "string" || to < from) return this.#fail("bad range");
    return range(from, to);
  }

  #classChar(): string | Test {
    const char = this.#next();
    if (char !== "\\") return char;
    const escaped = this.#next();
    return PERL[escaped] ?? this.#literal(escaped);
  }
}
