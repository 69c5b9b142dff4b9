/** The form of a key of the contract, and what most keys are made of: one of several words, an integer, a pattern. */

export type Scope = "workload" | "cell" | "group";

/** A key of the contract. `parse` gives undefined for a value outside the accepted ones. */
export interface Key<T> {
  readonly key: string;
  readonly where: "label" | "annotation";
  readonly scope: Scope;
  /** In words, as a denial says it. */
  readonly accepts: string;
  /** In words. */
  readonly fallback: string;
  readonly meaning: string;
  /** Speaks of what is injected or planned: mode `route` does not read it. */
  readonly manageOnly?: true;
  parse(text: string): T | undefined;
}

export type Texts = Pick<Key<unknown>, "scope" | "fallback" | "meaning">;

export const oneOf = <const V extends readonly string[]>(key: string, values: V, texts: Texts): Key<V[number]> => ({
  key,
  where: "annotation",
  ...texts,
  accepts: values.map((value) => `\`${value}\``).join(", "),
  parse: (text) => values.find((value) => value === text),
});

export const integer = (text: string, minimum: number, maximum: number): number | undefined => {
  const value = Number(text);
  return /^\d{1,9}$/.test(text) && value >= minimum && value <= maximum ? value : undefined;
};

export const integerKey = (key: string, range: readonly [number, number], texts: Texts): Key<number> => ({
  key,
  where: "annotation",
  ...texts,
  accepts: `an integer from ${range[0]} to ${range[1]}`,
  parse: (text) => integer(text, ...range),
});

export const pattern = (key: string, test: RegExp, accepts: string, texts: Texts): Key<string> => ({
  key,
  where: "annotation",
  ...texts,
  accepts,
  parse: (text) => (test.test(text) ? text : undefined),
});

/** Longest comma list: what is carried on pods must stay readable there. A hundred model names fit. */
const LONGEST_LIST = 4096;

/** Comma list, each element parsed; undefined as soon as one is not accepted. */
export function list<T extends string | number | object>(
  text: string,
  parse: (item: string) => T | undefined,
): readonly T[] | undefined {
  if (text.length > LONGEST_LIST) return undefined;
  const items = text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  const parsed = items.map(parse);
  return parsed.every((item) => item !== undefined) ? parsed : undefined;
}

export const texts = (scope: Scope, fallback: string, meaning: string): Texts => ({ scope, fallback, meaning });
