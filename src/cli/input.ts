/** Reading what commands are given: files of objects, configuration, the environment. */
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { settingsProblems } from "../admission/settings.ts";
import { ConfigError, loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { isObject, keyOf, type KubeObject } from "../kinds/kube.ts";

/** Bad usage or unreadable input: exit code 2. */
export class UsageError extends Error {}

export function readText(path: string): string {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new UsageError(`${path}: cannot be read: ${(error as Error).message}`);
  }
}

/** The environment of this process, for the few parts that read it by name. */
export const processEnvironment = (): Readonly<Record<string, string | undefined>> => process.env;

/** Configuration as every command loads it: `--config FILE`, the environment, `--set PATH=VALUE`. */
export function readConfig(options: { config?: string; set?: readonly string[] }): Config {
  const flags = Object.fromEntries((options.set ?? []).map(splitFlag));
  const file: { text?: string; name?: string } =
    options.config === undefined ? {} : { text: readText(options.config), name: options.config };
  const config = loadConfig({ ...file, environment: processEnvironment(), flags });
  const problems = settingsProblems(config.admission).map((problem) => `${file.name ?? "configuration"}: ${problem}`);
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

function splitFlag(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new UsageError(`--set ${text}: give PATH=VALUE, as router.listen=127.0.0.1:9002`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Collects a repeatable option. */
export const collect = (value: string, previous: readonly string[] = []): readonly string[] => [...previous, value];

/** The objects of YAML or JSON files, folders of them, or `-`; Lists are opened. Bad input names file and document. */
export function readObjects(paths: readonly string[]): KubeObject[] {
  const placed = readDocuments(paths).flatMap(placedIn);
  checkTwice(placed);
  return placed.map(({ object }) => object);
}

/** An object, and where it stands: file and document. */
interface Placed {
  readonly object: KubeObject;
  readonly place: string;
}

/** Objects that the API server would take for one and the same; one without a name is made anew each time. */
function checkTwice(placed: readonly Placed[]): void {
  const places = new Map<string, string>();
  for (const { object, place } of placed) {
    const { apiVersion, kind, metadata } = object;
    const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : "";
    const key = JSON.stringify([group, kind, metadata.namespace ?? "default", metadata.name]);
    const first = metadata.name === undefined ? undefined : places.get(key);
    if (first !== undefined) throw new UsageError(`${kind} ${keyOf(object)} is defined twice: ${first}, and ${place}`);
    places.set(key, place);
  }
}

/** A document of a file, decoded; what it is has still to be found out. */
export interface DecodedDocument {
  readonly value: unknown;
  /** For people: the file, and which of its documents. */
  readonly place: string;
}

/** The documents of YAML or JSON files, folders of them, or `-`, whatever they are. */
export const readDocuments = (paths: readonly string[]): readonly DecodedDocument[] =>
  paths.flatMap(expand).flatMap((path) => parseDocuments(readText(path), path));

/** The objects that a document is: one, or the items of a List. */
export const objectsIn = (document: DecodedDocument): KubeObject[] => placedIn(document).map(({ object }) => object);

const placedIn = ({ value, place }: DecodedDocument): Placed[] => openList(value, place);

function expand(path: string): string[] {
  if (path === "-" || !statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [path];
  return readdirSync(path)
    .filter((file) => /\.(ya?ml|json)$/.test(file))
    .sort()
    .map((file) => join(path, file));
}

export const parseObjects = (text: string, name: string): KubeObject[] => parseDocuments(text, name).flatMap(objectsIn);

function parseDocuments(text: string, name: string): DecodedDocument[] {
  if (text.length > MOST_CHARACTERS)
    throw new UsageError(`${name}: ${text.length} characters; at most ${MOST_CHARACTERS} are read`);
  const json = jsonOf(text);
  if (json !== undefined && heightOf(json, new Set(), new Map()) <= DEEPEST)
    return [{ value: json, place: `${name}: document 1` }];
  const documents = read(name, () => parseAllDocuments(text));
  if (!Array.isArray(documents)) return [];
  return documents.map((document, index) => {
    const place = `${name}: document ${index + 1}`;
    const [error] = document.errors;
    if (error !== undefined) throw new UsageError(`${place}: not YAML: ${error.message}`);
    const value = read(place, () => document.toJS() as unknown);
    if (heightOf(value, new Set(), new Map()) > DEEPEST)
      throw new UsageError(`${place}: nested deeper than ${DEEPEST}, or an alias that stands for itself`);
    return { value, place };
  });
}

/** JSON is YAML too, but a dump of 5000 nodes takes the YAML parser seconds. What is not JSON, the YAML parser explains. */
function jsonOf(text: string): unknown {
  if (!/^\s*\{/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** A dump of 5000 nodes as kubectl prints it; parsing YAML takes some 15 times its size in memory. */
const MOST_CHARACTERS = 67_108_864;

/** As deep as a review may be. */
const DEEPEST = 64;

/** The library throws where aliases would multiply beyond measure, and where nesting is deeper than the stack. */
function read<T>(place: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(`${place}: not readable YAML: ${(error as Error).message}`);
  }
}

/**
 * How deep a value is nested; endless where an alias stands for something around itself. Each object is walked once,
 * however many aliases lead to it.
 */
function heightOf(value: unknown, around: Set<object>, known: Map<object, number>): number {
  if (typeof value !== "object" || value === null) return 0;
  const found = known.get(value);
  if (found !== undefined) return found;
  if (around.has(value) || around.size > DEEPEST) return Infinity;
  around.add(value);
  const inner = Object.values(value).reduce<number>((most, one) => Math.max(most, heightOf(one, around, known)), 0);
  around.delete(value);
  known.set(value, inner + 1);
  return inner + 1;
}

function openList(value: unknown, place: string): Placed[] {
  if (value === null || value === undefined) return [];
  if (!isObject(value) || typeof value["apiVersion"] !== "string" || typeof value["kind"] !== "string")
    throw new UsageError(`${place}: not a Kubernetes object: apiVersion and kind are needed`);
  if (value["kind"].endsWith("List") && Array.isArray(value["items"]))
    return value["items"].flatMap((item, index) => openList(item, `${place}: item ${index + 1}`));
  if (!isObject(value["metadata"])) throw new UsageError(`${place}: ${value["kind"]} without metadata`);
  return [{ object: value as KubeObject, place }];
}
