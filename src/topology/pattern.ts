/**
 * Go's regular expressions (RE2) on node names, matched in time linear in the name.
 *
 * HyperNodes carry RE2 patterns. JavaScript's engine backtracks, so one pattern like `(a+)+$` would stop the process,
 * and it accepts look-around and back-references that RE2 does not have. A pattern becomes a small program for a
 * non-deterministic automaton (Thompson), which is walked with the set of its current states.
 * Syntax: https://github.com/google/re2/wiki/Syntax, without Unicode classes (`\p`): node names are ASCII.
 */
import { parsePattern, PatternError, type Term } from "./syntax.ts";

export type Pattern =
  { readonly ok: true; readonly matches: (text: string) => boolean } | { readonly ok: false; readonly error: string };

type Instruction =
  | { readonly op: "char"; readonly test: (code: number) => boolean }
  | { readonly op: "split"; readonly to: number[] }
  | { readonly op: "assert"; readonly test: (text: string, at: number) => boolean }
  | { readonly op: "match" };

/** A pattern of a few lines makes some hundred instructions; counted repetition multiplies, as `((a{99}){99}){99}`. */
const MAX_INSTRUCTIONS = 20_000;
const MAX_PATTERN = 1000;

/** Never throws: what RE2 would refuse, and what is too large, is an error with its place. */
export function compilePattern(pattern: string): Pattern {
  if (pattern.length > MAX_PATTERN) return { ok: false, error: `longer than ${MAX_PATTERN} characters` };
  try {
    const program: Instruction[] = [];
    emit(parsePattern(pattern), program);
    push(program, { op: "match" });
    return { ok: true, matches: (text) => run(program, text) };
  } catch (error) {
    if (error instanceof PatternError) return { ok: false, error: error.message };
    throw error;
  }
}

function push<I extends Instruction>(program: Instruction[], instruction: I): I {
  if (program.length >= MAX_INSTRUCTIONS) throw new PatternError("repetition too large");
  program.push(instruction);
  return instruction;
}

/** Appends the instructions of a term; on a match they run into whatever is appended next. */
function emit(term: Term, program: Instruction[]): void {
  switch (term.kind) {
    case "char":
      push(program, { op: "char", test: term.test });
      return;
    case "assert":
      push(program, { op: "assert", test: term.test });
      return;
    case "sequence":
      for (const part of term.parts) emit(part, program);
      return;
    case "choice":
      emitChoice(term.parts, program);
      return;
    case "repeat":
      emitRepeat(term, program);
  }
}

function emitChoice(parts: readonly Term[], program: Instruction[]): void {
  const fork = push(program, { op: "split", to: [] as number[] });
  const ends: { to: number[] }[] = [];
  for (const part of parts) {
    fork.to.push(program.length);
    emit(part, program);
    ends.push(push(program, { op: "split", to: [] as number[] }));
  }
  for (const end of ends) end.to.push(program.length);
}

function emitRepeat(term: Extract<Term, { kind: "repeat" }>, program: Instruction[]): void {
  for (let count = 0; count < term.min; count++) emit(term.part, program);
  if (term.max === Infinity) {
    const loop = program.length;
    const fork = push(program, { op: "split", to: [loop + 1] });
    emit(term.part, program);
    push(program, { op: "split", to: [loop] });
    fork.to.push(program.length);
    return;
  }
  const forks: { to: number[] }[] = [];
  for (let count = term.min; count < term.max; count++) {
    forks.push(push(program, { op: "split", to: [program.length + 1] }));
    emit(term.part, program);
  }
  for (const fork of forks) fork.to.push(program.length);
}

/** Whether the program matches anywhere in the text: a new attempt starts at every place. */
function run(program: readonly Instruction[], text: string): boolean {
  const seen = new Int32Array(program.length).fill(-1);
  let states: number[] = [];
  for (let at = 0; at <= text.length; at++) {
    const closed = close(program, [...states, 0], { text, at, seen });
    if (closed === undefined) return true;
    const code = text.charCodeAt(at);
    states =
      at === text.length ? [] : closed.filter((state) => accepts(program[state], code)).map((state) => state + 1);
  }
  return false;
}

const accepts = (instruction: Instruction | undefined, code: number): boolean =>
  instruction?.op === "char" && instruction.test(code);

interface Place {
  readonly text: string;
  readonly at: number;
  /** For each instruction, the last place in the text where it was reached. */
  readonly seen: Int32Array;
}

/** The `char` instructions reachable without reading; undefined where the match is reached. */
function close(program: readonly Instruction[], stack: number[], place: Place): number[] | undefined {
  const reached: number[] = [];
  for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
    const instruction = program[state];
    if (instruction === undefined || place.seen[state] === place.at) continue;
    place.seen[state] = place.at;
    if (instruction.op === "match") return undefined;
    if (instruction.op === "char") reached.push(state);
    else if (instruction.op === "split") stack.push(...instruction.to);
    else if (instruction.test(place.text, place.at)) stack.push(state + 1);
  }
  return reached;
}
