/**
 * Reading the keys of the contract off labels and annotations: each value parsed once, each bad one told.
 */
import { entry, type StringMap } from "../kinds/kube.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { KEYS, type Key, type KeyName, type ValueOf } from "./keys.ts";

/** Values of keys, with the verdicts of reading them. */
export interface Reader {
  readonly read: <N extends KeyName>(name: N) => ValueOf<N> | undefined;
  /** True where the key stands anywhere. */
  readonly has: (name: KeyName) => boolean;
  readonly verdicts: Verdict[];
}

/** Where annotations come from, the strongest first. */
export interface Source {
  readonly map: StringMap | undefined;
  /** For messages: `` or ` of the Namespace`. */
  readonly of: string;
}

/** Reads labels, and annotations of the first source that has them. */
export function reader(labels: StringMap | undefined, annotations: readonly Source[]): Reader {
  const verdicts: Verdict[] = [];
  const find = (key: Key<unknown>): { text: unknown; of: string } | undefined => {
    const sources = key.where === "label" ? [{ map: labels, of: "" }] : annotations;
    const source = sources.find(({ map }) => entry(map, key.key) !== undefined);
    return source === undefined ? undefined : { text: entry(source.map, key.key), of: source.of };
  };
  const read = <N extends KeyName>(name: N): ValueOf<N> | undefined => {
    const key: Key<unknown> = KEYS[name];
    const found = find(key);
    if (found === undefined) return undefined;
    const value = typeof found.text === "string" ? key.parse(found.text) : undefined;
    if (value === undefined) verdicts.push(invalid(key, found.text, found.of));
    return value as ValueOf<N> | undefined;
  };
  return { read, has: (name) => find(KEYS[name]) !== undefined, verdicts };
}

/** Longest value that a message repeats. */
const SHOWN = 60;

const invalid = (key: Key<unknown>, value: unknown, of: string): Verdict => {
  const text = JSON.stringify(value);
  const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
  const quoted = typeof value === "string" ? "" : "text in quotes: ";
  return denied(
    key.where === "label" ? "InvalidLabel" : "InvalidAnnotation",
    `${key.key}${of}: ${shown} is not accepted; give ${quoted}${key.accepts.replaceAll("`", "")}`,
    { subject: key.key },
  );
};
