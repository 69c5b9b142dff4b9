/**
 * File, environment and flags -> a frozen Config, or an error that names path, value and what is accepted.
 *
 * Flags win over the environment (`TANDEM_` and the path in upper snake case), the environment over the file, the file
 * over the defaults. Every command comes through here.
 */
import { parseDocument } from "yaml";
import Value from "typebox/value";
import { nearest } from "../kinds/nearest.ts";
import { isObject, type JsonObject } from "../kinds/kube.ts";
import { ConfigSchema, type Config } from "./schema.ts";

export interface ConfigSources {
  /** Text of the configuration file. */
  readonly text?: string;
  /** Its name, for messages. */
  readonly name?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Dotted path -> value, as given on the command line. */
  readonly flags?: Readonly<Record<string, string>>;
}

export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

interface SchemaNode extends JsonObject {
  type?: string;
  properties?: Record<string, SchemaNode>;
  items?: SchemaNode;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  accepts?: string;
  pattern?: string;
  minLength?: number;
  default?: unknown;
  description?: string;
}

const ROOT = ConfigSchema as unknown as SchemaNode;

/** Every key that holds a value, with its dotted path, its environment name and its schema. */
export interface ConfigKey {
  readonly path: string;
  readonly environment: string;
  readonly schema: SchemaNode;
}

const PREFIX = "TANDEM_";

const environmentName = (path: string): string =>
  `${PREFIX}${path
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .replaceAll(".", "_")
    .toUpperCase()}`;

export const configKeys = (node: SchemaNode = ROOT, path = ""): ConfigKey[] =>
  node.properties === undefined
    ? [{ path, environment: environmentName(path), schema: node }]
    : Object.entries(node.properties).flatMap(([key, child]) =>
        configKeys(child, path === "" ? key : `${path}.${key}`),
      );

/** What a key accepts, in words. */
export function accepted(schema: SchemaNode): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.map((one) => (one === "" ? "empty" : one)).join(", ")}`;
  if (schema.accepts !== undefined) return schema.accepts;
  if (schema.minimum !== undefined)
    return `${schema.type === "integer" ? "an integer" : "a number"} from ${schema.minimum} to ${schema.maximum ?? "any"}`;
  return acceptedType(schema);
}

function acceptedType(schema: SchemaNode): string {
  if (schema.type === "array") return `a list of ${schema.items?.properties === undefined ? "strings" : "objects"}`;
  if (schema.type === "object" && schema.properties === undefined) return "a map of names to texts";
  if (schema.type === "object") return `an object with ${Object.keys(schema.properties ?? {}).join(", ")}`;
  return schema.type === "boolean" ? "true or false" : `a ${schema.type ?? "value"}`;
}

export function loadConfig(sources: ConfigSources = {}): Config {
  const name = sources.name ?? "configuration";
  const layers = [
    readFile(sources.text ?? "", name),
    readEnvironment(sources.environment ?? {}),
    readFlags(sources.flags ?? {}),
  ];
  const merged = layers.reduce<unknown>(merge, Value.Create(ConfigSchema));
  const filled = Value.Default(ConfigSchema, merged);
  const problems = validate(filled);
  if (problems.length > 0) throw new ConfigError(problems.map((problem) => `${name}: ${problem}`));
  return freeze(filled as Config);
}

function readFile(text: string, name: string): unknown {
  const value = parseYaml(text, name);
  if (value === null || value === undefined) return {};
  if (!isObject(value))
    throw new ConfigError([`${name}: must be a mapping with ${Object.keys(ROOT.properties ?? {}).join(", ")}`]);
  return value;
}

/** The value of a YAML document. Aliases that multiply, or that contain themselves, are no configuration. */
function parseYaml(text: string, name: string): unknown {
  const document = parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) throw new ConfigError([`${name}: not YAML: ${error.message}`]);
  try {
    return JSON.parse(JSON.stringify(document.toJS({ maxAliasCount: MOST_ALIASES }), textOfNumber));
  } catch (reason) {
    throw new ConfigError([
      `${name}: aliases are not accepted here: ${(reason as Error).message.split("\n")[0] ?? ""}`,
    ]);
  }
}

const MOST_ALIASES = 100;

/** JSON has no infinity: it stays as text, so that validation names it. */
const textOfNumber = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isFinite(value) ? String(value) : value;

/** What Kubernetes sets in every container for a Service, as `TANDEM_ROUTER_PORT_9002_TCP_ADDR`. */
const OF_SERVICE = /_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** Names that can only be meant for a key: of one of the sections, or near one of the keys. */
function strayNames(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  const known = configKeys().map((key) => key.environment.slice(PREFIX.length));
  const sections = Object.keys(ROOT.properties ?? {}).map((section) => `${section.toUpperCase()}_`);
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && !OF_SERVICE.test(name))
    .map((name) => name.slice(PREFIX.length))
    .filter((name) => !known.includes(name))
    .filter((name) => sections.some((section) => name.startsWith(section)) || nearest(name, known) !== undefined)
    .map((name) => `${PREFIX}${name}: unknown variable${hint(name, known, PREFIX)}`);
}

function readEnvironment(environment: Readonly<Record<string, string | undefined>>): unknown {
  const strays = strayNames(environment);
  if (strays.length > 0) throw new ConfigError(strays);
  const found = configKeys().flatMap((key) => {
    const value = environment[key.environment];
    return value === undefined ? [] : [nest(key.path, parseText(key.schema, value))];
  });
  return found.reduce(merge, {});
}

function readFlags(flags: Readonly<Record<string, string>>): unknown {
  const keys = new Map(configKeys().map((key) => [key.path, key]));
  return Object.entries(flags)
    .map(([path, value]) => {
      const key = keys.get(path);
      if (key === undefined) throw new ConfigError([`--set ${path}: unknown key${hint(path, [...keys.keys()])}`]);
      return nest(path, parseText(key.schema, value));
    })
    .reduce(merge, {});
}

/** Text to the schema's type where it can be; otherwise unchanged, so that validation names it. Lists are JSON or commas. */
function parseText(schema: SchemaNode, value: string): unknown {
  if (schema.type === "string") return value;
  if (schema.type === "array" && !value.trim().startsWith("[")) return commaList(value);
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

const commaList = (text: string): string[] =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");

const nest = (path: string, value: unknown): unknown =>
  path
    .split(".")
    .reverse()
    .reduce<unknown>((inner, key) => ({ [key]: inner }), value);

/** A section whose keys are all commented out is null, and changes nothing. */
function merge(base: unknown, over: unknown): unknown {
  if (isObject(base) && over === null) return base;
  if (!isObject(base) || !isObject(over)) return over;
  const result: JsonObject = Object.assign(Object.create(null) as JsonObject, base);
  for (const [key, value] of Object.entries(over)) result[key] = key in result ? merge(result[key], value) : value;
  return { ...result };
}

function validate(value: unknown): string[] {
  // A name that a map does not accept is told twice: on the name itself, and on the map.
  const errors = Value.Errors(ConfigSchema, value).filter(
    ({ keyword }) => keyword !== "boolean" && keyword !== "propertyNames",
  );
  return errors.flatMap((error) => {
    const unknown = (error.params as { additionalProperties?: readonly string[] }).additionalProperties;
    if (error.keyword === "additionalProperties" && unknown !== undefined)
      return unknown.map((key) => unknownKey(error.instancePath, key));
    if (error.schemaPath.endsWith("/propertyNames"))
      return [`${segments(error.instancePath).join(".")}: the name is not accepted here`];
    return [badValue(error.instancePath, value)];
  });
}

function unknownKey(pointer: string, key: string): string {
  const known = Object.keys(schemaAt(pointer)?.properties ?? {});
  return `${[...segments(pointer), key].join(".")}: unknown key${hint(key, known)}; accepted: ${known.join(", ")}`;
}

function badValue(pointer: string, root: unknown): string {
  const found = segments(pointer).reduce<unknown>((value, key) => (value as JsonObject | undefined)?.[key], root);
  const schema = schemaAt(pointer);
  return `${segments(pointer).join(".")}: ${found === undefined ? "nothing" : JSON.stringify(found)} is not accepted; give ${schema === undefined ? "another value" : accepted(schema)}`;
}

const hint = (key: string, known: readonly string[], prefix = ""): string => {
  const near = nearest(key, known);
  return near === undefined ? "" : `, did you mean ${prefix}${near}?`;
};

const segments = (pointer: string): string[] =>
  pointer === ""
    ? []
    : pointer
        .slice(1)
        .split("/")
        .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));

const schemaAt = (pointer: string): SchemaNode | undefined =>
  segments(pointer).reduce<SchemaNode | undefined>(
    (node, key) => (node?.items !== undefined && /^\d+$/.test(key) ? node.items : node?.properties?.[key]),
    ROOT,
  );

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
  return value;
}
