/**
 * The words of a shell script, as far as a start script of an engine needs them: quotes, escapes, comments, variables
 * and arrays with known values, here-documents, redirections, and the separators between commands. It never runs
 * anything; what it cannot resolve stays as `$...`. Both branches of a condition are read.
 */
const SEPARATORS = ";&|\n()";
const ASSIGNMENT = /^([A-Za-z_]\w*)=(.*)$/s;
/** `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`. */
const VARIABLE = /\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^}]*))?\})/g;
/** `${NAME[@]}`, `$@` and `$*` as a whole word. */
const LIST = /^\$(?:\{([A-Za-z_]\w*)\[[@*]\]\}|\{?[@*]\}?)$/;
/** `NAME=` and `NAME+=` before the parenthesis of an array. */
const ARRAY = /^([A-Za-z_]\w*)(\+?)=$/;
const SHELL = /(^|\/)(ba|da|a|z)?sh$/;
const REDIRECTION = /^(<<<|<<-?|>>|[<>]&|>\||[<>])/;

/** Longest script that is read; a longer one counts as a script that hides its arguments. */
const LONGEST_SCRIPT = 65536;
/** `eval` and `sh -c` within a script, within each other. */
const DEEPEST = 3;

/** What is known of a script from outside. */
export interface Surroundings {
  /** Variables with known values. */
  readonly variables: ReadonlyMap<string, string>;
  /** True where variables may be set that are not known here: then no `${NAME:-default}` tells anything. */
  readonly open?: boolean;
  /** What `"$@"` stands for, where that is known. */
  readonly positional?: readonly string[];
}

interface Reading {
  readonly text: string;
  readonly depth: number;
  readonly open: boolean;
  readonly variables: Map<string, string>;
  /** Arrays by name; `@` are the positional parameters. */
  readonly arrays: Map<string, readonly string[]>;
  readonly commands: string[][];
  at: number;
  word: string | undefined;
  words: string[];
  /** The next word is the target of a redirection, or the delimiter of a here-document. */
  target: "file" | "document" | undefined;
  /** Here-documents that begin after this line. */
  documents: string[];
  /** The array whose elements are being read, and the words before it. */
  array: { readonly name: string; readonly before: readonly string[]; readonly words: string[] } | undefined;
}

/** Replaces variables whose value is known; others stay. */
const expand = (text: string, { variables, open }: Reading): string =>
  text.replace(
    VARIABLE,
    (whole, plain: string | undefined, braced: string | undefined, fallback: string | undefined) =>
      variables.get(plain ?? braced ?? "") ?? (open ? undefined : fallback) ?? whole,
  );

/** A list stands for its elements; another word for itself. */
function elements(word: string, { arrays }: Reading): readonly string[] {
  const match = LIST.exec(word);
  return (match === null ? undefined : arrays.get(match[1] ?? "@")) ?? [word];
}

function endWord(state: Reading): void {
  const { word, target } = state;
  if (word === undefined) return;
  if (target === undefined) state.words.push(...elements(word, state));
  if (target === "document") state.documents.push(word);
  state.target = undefined;
  state.word = undefined;
}

function assign(words: readonly string[], state: Reading): void {
  for (const word of words[0] === "export" ? words.slice(1) : words) {
    const match = ASSIGNMENT.exec(word);
    if (match?.[1] === undefined) break;
    state.variables.set(match[1], match[2] ?? "");
  }
}

/** `set -- ...` and `shift` change what `"$@"` stands for. */
function setPositional(words: readonly string[], { arrays }: Reading): void {
  const dashes = words[0] === "set" ? words.indexOf("--") : -1;
  if (dashes !== -1) arrays.set("@", words.slice(dashes + 1));
  if (words[0] === "shift") arrays.delete("@");
}

/** The script of `sh -c SCRIPT` among some words, also `bash -lc`, `-e -c` and behind a wrapper; -1 where there is none. */
export function scriptIndex(words: readonly string[]): number {
  const shell = words.findIndex((word) => SHELL.test(word));
  const flag = shell === -1 ? -1 : words.findIndex((word, index) => index > shell && /^-[a-z]*c$/.test(word));
  // Only options of the shell stand before it, and the names that `-o` takes.
  const options = words.slice(shell + 1, flag);
  const own = options.every((word, index) => word.startsWith("-") || options[index - 1]?.endsWith("o") === true);
  return flag !== -1 && own ? flag + 1 : -1;
}

/** The script within a command: of `eval` or `sh -c`. */
function innerScript(words: readonly string[]): string | undefined {
  if (words[0] === "eval") return words.slice(1).join(" ");
  return words[scriptIndex(words)];
}

function endCommand(state: Reading): void {
  endWord(state);
  state.target = undefined;
  const { words, depth } = state;
  state.words = [];
  if (words.length === 0) return;
  assign(words, state);
  setPositional(words, state);
  const inner = depth < DEEPEST ? innerScript(words) : undefined;
  if (inner === undefined) state.commands.push(words);
  else read({ ...state, ...fresh(inner), depth: depth + 1 });
}

const append = (state: Reading, text: string): void => {
  state.word = (state.word ?? "") + text;
};

function single(state: Reading): void {
  const end = state.text.indexOf("'", state.at + 1);
  const stop = end === -1 ? state.text.length : end;
  append(state, state.text.slice(state.at + 1, stop));
  state.at = stop + 1;
}

/** Within double quotes a backslash escapes only `"`, `\`, `$`, a backquote and a newline. */
function double(state: Reading): void {
  let inner = "";
  let at = state.at + 1;
  for (; at < state.text.length && state.text[at] !== '"'; at++) {
    const next = state.text[at + 1] ?? "";
    const escaped = state.text[at] === "\\" && '"\\$`\n'.includes(next) && next !== "";
    if (escaped) at++;
    if (!escaped || next !== "\n") inner += state.text[at] ?? "";
  }
  append(state, expand(inner, state));
  state.at = at + 1;
}

function escape(state: Reading): void {
  const next = state.text[state.at + 1] ?? "";
  if (next !== "\n") append(state, next);
  state.at += 2;
}

/** The length of `$(...)` with everything nested in it: substitutions, and the arithmetic of `$((...))`. */
function substitutionLength(rest: string): number {
  let depth = 0;
  for (let index = 1; index < rest.length; index++) {
    if (rest[index] === "(") depth++;
    if (rest[index] === ")" && --depth === 0) return index + 1;
  }
  return rest.length;
}

/** A variable or a command substitution: taken whole, so that its parentheses separate nothing. */
function dollar(state: Reading): void {
  const rest = state.text.slice(state.at);
  const length = rest.startsWith("$(")
    ? substitutionLength(rest)
    : (/^\$(?:\{[^}]*\}|\w+|[@*#?]|)/.exec(rest)?.[0].length ?? 1);
  const raw = rest.slice(0, length);
  const value = expand(raw, state);
  state.at += length;
  if (value === raw) append(state, value);
  else split(state, value);
}

/** A value that stands outside of quotes falls apart at its spaces. */
function split(state: Reading, value: string): void {
  const [first = "", ...others] = value.split(/\s+/);
  if (first !== "") append(state, first);
  for (const other of others) {
    endWord(state);
    if (other !== "") append(state, other);
  }
}

/** An old-style substitution, taken whole. */
function backquote(state: Reading): void {
  const end = state.text.indexOf("`", state.at + 1);
  const stop = end === -1 ? state.text.length : end + 1;
  append(state, state.text.slice(state.at, stop));
  state.at = stop;
}

function comment(state: Reading): void {
  const end = state.text.indexOf("\n", state.at);
  state.at = end === -1 ? state.text.length : end;
}

/** `>`, `2>&1`, `<<EOF`, `<<<`: the word that follows is no argument. `<(...)` is one, and taken whole. */
function redirection(state: Reading): void {
  const rest = state.text.slice(state.at);
  if (rest[1] === "(") {
    const length = substitutionLength(rest);
    append(state, rest.slice(0, length));
    state.at += length;
    return;
  }
  // The number of a file, as in `2>`.
  if (/^\d+$/.test(state.word ?? "")) state.word = undefined;
  endWord(state);
  const operator = REDIRECTION.exec(rest)?.[0] ?? "";
  state.target = /^<<-?$/.test(operator) ? "document" : "file";
  state.at += operator.length;
}

/** The text of here-documents is no command, unless a shell is what reads it. */
function skipDocuments(state: Reading): void {
  const { documents } = state;
  state.documents = [];
  if (SHELL.test(state.commands.at(-1)?.[0] ?? "")) return;
  for (const delimiter of documents) {
    const rest = state.text.slice(state.at);
    const lines = rest.split("\n");
    const end = lines.findIndex((line) => line.replace(/^\t+/, "") === delimiter);
    state.at += end === -1 ? rest.length : lines.slice(0, end + 1).join("\n").length + 1;
  }
}

/** `NAME=(` begins an array, whose elements stand before `)`. */
function opensArray(state: Reading, char: string): boolean {
  const match = char === "(" && state.array === undefined ? ARRAY.exec(state.word ?? "") : null;
  if (match === null) return false;
  const name = match[1] ?? "";
  const before = match[2] === "+" ? (state.arrays.get(name) ?? []) : [];
  state.array = { name, before, words: state.words };
  state.words = [];
  state.word = undefined;
  return true;
}

/** Between the parentheses of an array separators only part its elements. */
function inArray(state: Reading, char: string): boolean {
  if (state.array === undefined || !SEPARATORS.includes(char)) return false;
  endWord(state);
  if (char === ")") closeArray(state, state.array);
  return true;
}

function closeArray(state: Reading, { name, before, words }: NonNullable<Reading["array"]>): void {
  state.arrays.set(name, [...before, ...state.words]);
  state.words = words;
  state.array = undefined;
}

function plain(state: Reading, char: string): void {
  state.at++;
  if (opensArray(state, char) || inArray(state, char)) return;
  // `&>` redirects both outputs.
  if (char === "&" && state.text[state.at] === ">") return;
  if (SEPARATORS.includes(char)) endCommand(state);
  else if (/\s/.test(char)) endWord(state);
  else append(state, char);
  if (char === "\n" && state.documents.length > 0) skipDocuments(state);
}

/** Characters that begin something read by its own rule. */
const OPENERS: Readonly<Record<string, (state: Reading) => void>> = {
  "'": single,
  '"': double,
  "\\": escape,
  $: dollar,
  "`": backquote,
  "<": redirection,
  ">": redirection,
};

function step(state: Reading): void {
  const char = state.text[state.at] ?? "";
  const opener = OPENERS[char];
  if (opener !== undefined) opener(state);
  else if (char === "#" && state.word === undefined) comment(state);
  else plain(state, char);
}

const fresh = (text: string): Pick<Reading, "text" | "at" | "word" | "words" | "target" | "documents" | "array"> => ({
  text,
  at: 0,
  word: undefined,
  words: [],
  target: undefined,
  documents: [],
  array: undefined,
});

function read(state: Reading): void {
  while (state.at < state.text.length) step(state);
  if (state.array !== undefined) closeArray(state, state.array);
  endCommand(state);
}

/** The commands of a script, each as its words. */
export function shellCommands(script: string, around: Surroundings): readonly (readonly string[])[] {
  if (script.length > LONGEST_SCRIPT) return [];
  const commands: string[][] = [];
  read({
    ...fresh(script),
    depth: 0,
    open: around.open ?? false,
    variables: new Map(around.variables),
    arrays: new Map(around.positional === undefined ? [] : [["@", around.positional]]),
    commands,
  });
  return commands;
}
