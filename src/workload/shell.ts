/**
 * The words of a shell script, as far as a start script of an engine needs them: quotes, escapes, comments, variables
 * with known values, and the separators between commands. It never runs anything; what it cannot resolve stays as `$...`.
 */
const SEPARATORS = ";&|\n()";
const REDIRECTION = /^\d*(?:[<>]|&>)/;
const ASSIGNMENT = /^([A-Za-z_]\w*)=(.*)$/s;
/** `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`. */
const VARIABLE = /\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^}]*))?\})/g;

/** Longest script that is read; a longer one counts as a script that hides its arguments. */
const LONGEST_SCRIPT = 65536;

interface Reading {
  readonly text: string;
  at: number;
  word: string | undefined;
  words: string[];
  readonly commands: string[][];
  readonly variables: Map<string, string>;
  /** True where variables may be set that are not known here: then no `${NAME:-default}` tells anything. */
  readonly open: boolean;
}

/** Replaces variables whose value is known; others stay. */
const expand = (text: string, { variables, open }: Reading): string =>
  text.replace(
    VARIABLE,
    (whole, plain: string | undefined, braced: string | undefined, fallback: string | undefined) =>
      variables.get(plain ?? braced ?? "") ?? (open ? undefined : fallback) ?? whole,
  );

function endWord(state: Reading): void {
  if (state.word !== undefined) state.words.push(state.word);
  state.word = undefined;
}

function endCommand(state: Reading): void {
  endWord(state);
  const words = state.words.filter((word) => !REDIRECTION.test(word));
  state.words = [];
  if (words.length === 0) return;
  for (const word of words[0] === "export" ? words.slice(1) : words) {
    const match = ASSIGNMENT.exec(word);
    if (match?.[1] === undefined) break;
    state.variables.set(match[1], match[2] ?? "");
  }
  state.commands.push(words);
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
  append(state, expand(rest.slice(0, length), state));
  state.at += length;
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

/** `&` after `>` belongs to a redirection as `2>&1`. */
const separates = (state: Reading, char: string): boolean =>
  SEPARATORS.includes(char) && !(char === "&" && /[<>]$/.test(state.word ?? ""));

function plain(state: Reading, char: string): void {
  if (separates(state, char)) endCommand(state);
  else if (/\s/.test(char)) endWord(state);
  else append(state, char);
  state.at++;
}

/** Characters that begin something read by its own rule. */
const OPENERS: Readonly<Record<string, (state: Reading) => void>> = {
  "'": single,
  '"': double,
  "\\": escape,
  $: dollar,
  "`": backquote,
};

function step(state: Reading): void {
  const char = state.text[state.at] ?? "";
  const opener = OPENERS[char];
  if (opener !== undefined) opener(state);
  else if (char === "#" && state.word === undefined) comment(state);
  else plain(state, char);
}

/**
 * The commands of a script, each as its words. `known` are variables with values known from outside; `open` says that
 * there are others.
 */
export function shellCommands(
  script: string,
  known: ReadonlyMap<string, string>,
  open = false,
): readonly (readonly string[])[] {
  if (script.length > LONGEST_SCRIPT) return [];
  const state: Reading = {
    text: script,
    at: 0,
    word: undefined,
    words: [],
    commands: [],
    variables: new Map(known),
    open,
  };
  while (state.at < script.length) step(state);
  endCommand(state);
  return state.commands;
}
