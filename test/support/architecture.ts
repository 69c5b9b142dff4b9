/** The law of imports (docs: DESIGN section 3, "Direction of imports"), as data and one pure function. */
import { readdirSync, readFileSync } from "node:fs";
import { join, normalize, relative } from "node:path";

export interface Edge {
  /** Path below `src/`, as `router/pick/cost.ts`. */
  readonly from: string;
  /** Path below `src/`, or the name of a package (`node:http2`, `fastify`). */
  readonly to: string;
  readonly external: boolean;
}

const EDGES = new Set(["routes", "server", "loop", "client", "worker"]);
const CAPABILITIES = new Set(["admission", "extender", "controller", "router", "autoscaler", "certs", "doctor"]);
const ADAPTERS = new Set(["cluster", "endpoints", "telemetry"]);
const DOMAIN = ["profiles", "workload", "topology", "gang"];
const LEAVES = new Set(["kinds", "ports", "config"]);
/** What pure code may use from outside: values in, values out. */
const PURE_PACKAGES = new Set([
  "node:util",
  "node:buffer",
  "node:crypto",
  "fast-json-patch",
  "xxhash-wasm",
  "node-forge",
  "lru-cache",
  "typebox",
  "typebox/value",
  "yaml",
]);
/** The order inside the router: a stage may use only what stands before it. */
const ROUTER_ORDER = ["request", "kv", "disagg", "pick", "flow", "extproc"];

const room = (path: string): string => path.split("/")[0]?.replace(/\.ts$/, "") ?? "";
const stem = (path: string): string => path.split("/").at(-1)?.replace(/\.ts$/, "") ?? "";
const isEdge = (path: string): boolean => EDGES.has(stem(path)) && path.includes("/");

/** Why an import is forbidden, or undefined where it is allowed. */
export function violation(edge: Edge): string | undefined {
  const from = room(edge.from);
  if (from === "main" || from === "cli") return undefined;
  return edge.external ? externalViolation(edge, from) : internalViolation(edge, from, room(edge.to));
}

function externalViolation(edge: Edge, from: string): string | undefined {
  if (isEdge(edge.from) || ADAPTERS.has(from) || from === "simulator") return undefined;
  return PURE_PACKAGES.has(edge.to) ? undefined : `${edge.from} is pure and may not use ${edge.to}`;
}

/** Rooms that nothing below the command line imports. */
const PRIVATE: Readonly<Record<string, string>> = {
  main: "nothing imports the composition root",
  cli: "nothing imports the composition root",
  simulator: "only cli uses the simulator",
};

type Rule = (edge: Edge, from: string, to: string) => string | undefined;

/** The first rule that applies to the room of the importing file. */
const RULES: readonly [applies: (from: string) => boolean, rule: Rule][] = [
  [(from) => LEAVES.has(from), () => "leaves import leaves only"],
  [
    (from) => from === "simulator",
    (_, __, to) => (ADAPTERS.has(to) ? "the simulator uses capabilities, not adapters" : undefined),
  ],
  [(from) => ADAPTERS.has(from), () => "adapters know no capability"],
  [
    (from) => DOMAIN.includes(from),
    (_, from, to) => (isBelow(to, from) ? undefined : "not below in the shared domain"),
  ],
  [(from) => CAPABILITIES.has(from), (_, __, to) => capabilityViolation(to)],
];

const isBelow = (to: string, from: string): boolean => DOMAIN.includes(to) && DOMAIN.indexOf(to) < DOMAIN.indexOf(from);

function capabilityViolation(to: string): string | undefined {
  if (CAPABILITIES.has(to)) return "capabilities never import each other";
  if (ADAPTERS.has(to)) return "capabilities meet adapters only in main and cli";
  return DOMAIN.includes(to) ? undefined : "unknown room";
}

function internalViolation(edge: Edge, from: string, to: string): string | undefined {
  if (LEAVES.has(to)) return leafViolation(edge, from, to);
  if (from === to) return from === "router" ? routerViolation(edge) : undefined;
  const rule = RULES.find(([applies]) => applies(from))?.[1];
  const why = PRIVATE[to] ?? (rule === undefined ? "unknown room" : rule(edge, from, to));
  return why === undefined ? undefined : `${edge.from} -> ${edge.to}: ${why}`;
}

function leafViolation(edge: Edge, from: string, to: string): string | undefined {
  if (from === "kinds" && to !== "kinds") return `${edge.from} -> ${edge.to}: kinds imports kinds only`;
  return undefined;
}

function routerViolation(edge: Edge): string | undefined {
  const stage = (path: string): number => ROUTER_ORDER.indexOf(path.split("/")[1] ?? "");
  const [a, b] = [stage(edge.from), stage(edge.to)];
  if (a === -1 || b === -1 || b <= a) return undefined;
  return `${edge.from} -> ${edge.to}: the order is ${ROUTER_ORDER.join(" -> ")}`;
}

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"|(?:^|\n)\s*import\s+"([^"]+)"|import\(\s*"([^"]+)"\s*\)/g;

/** Every import of every file below `src`. */
export function readEdges(root: string): Edge[] {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  return files.flatMap((file) => {
    const text = readFileSync(join(root, file), "utf8");
    return [...text.matchAll(IMPORT)].map((match) => toEdge(root, file, match[1] ?? match[2] ?? match[3] ?? ""));
  });
}

function toEdge(root: string, from: string, specifier: string): Edge {
  if (!specifier.startsWith(".")) return { from, to: specifier, external: true };
  return { from, to: relative(root, normalize(join(root, from, "..", specifier))), external: false };
}
