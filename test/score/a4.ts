/** A4: keys that mean something to JavaScript or to JSON pointers, anywhere, with frozen prototypes and no `__proto__`. */
import { fork } from "node:child_process";
import { once } from "node:events";
import fc from "fast-check";
import { readBody } from "../../src/admission/body.ts";
import { review, type ReviewReply } from "../../src/admission/review.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { complaint, randomOf } from "../support/hostile.ts";
import { legal } from "../support/legal.ts";
import type { Progress, ScoreRow } from "./row.ts";

const KEYS = ["__proto__", "constructor", "prototype", "toString", "a/b~c", "~1", "x~"] as const;

export interface Bypasses {
  readonly objects: number;
  readonly patched: number;
  readonly faults: readonly string[];
}

/** A key more in a random map: text in maps of text, an object elsewhere. */
function withKey(root: object, random: () => number): void {
  let at = root;
  for (;;) {
    const inner = Object.entries(at).filter(
      ([key, value]) => typeof value === "object" && value !== null && key !== "resources",
    );
    const [, next] = inner[Math.floor(random() * inner.length)] ?? [];
    if (next === undefined || random() < 0.15) break;
    at = next as object;
  }
  if (Array.isArray(at)) return;
  const text = Object.values(at).every((value) => typeof value === "string");
  const value = text ? "polluted" : { polluted: "yes" };
  const key = KEYS[Math.floor(random() * KEYS.length)] ?? "";
  Object.defineProperty(at, key, { value, enumerable: true, configurable: true, writable: true });
}

const bodyOf = (object: KubeObject): Buffer =>
  Buffer.from(
    JSON.stringify({
      apiVersion: "admission.k8s.io/v1",
      request: { uid: "u", operation: "CREATE", namespace: "n", kind: { kind: object.kind }, object },
    }),
  );

/** How often the campaign tells how far it is, in objects. */
const STEP = 10_000;

interface Campaign {
  readonly seed: number;
  readonly objects: number;
  readonly given: readonly KubeObject[];
}

/** With the keys everything is decided as without them. */
function campaign({ seed, objects, given }: Campaign, progress: Progress): Bypasses {
  const context = { snapshot: EMPTY_SNAPSHOT, settings: loadConfig({}).admission };
  const ask = (body: unknown): ReviewReply => review(body, "mutate", context);
  const random = randomOf(seed);
  const wanted = given.map((plain) => ask(readBody(bodyOf(plain))).outcome);
  const faults: string[] = [];
  let patched = 0;
  for (let index = 0; index < objects; index++) {
    const spoilt = structuredClone(given[index % given.length] as KubeObject);
    for (let count = 1 + Math.floor(random() * 3); count > 0; count--) withKey(spoilt, random);
    const body = readBody(bodyOf(spoilt));
    const found = ask(body);
    const expected = wanted[index % given.length];
    const fault =
      complaint(body, found) ?? (found.outcome === expected ? undefined : `${expected} became ${found.outcome}`);
    if (found.outcome === "patched") patched++;
    if (fault !== undefined) faults.push(`${fault}: ${JSON.stringify(spoilt)}`);
    if ((index + 1) % STEP === 0) progress(`${index + 1} objects, ${patched} patched, ${faults.length} faults`);
  }
  return { objects, patched, faults };
}

const OBJECTS = 100_000;

/** In a process of its own, because prototypes are frozen for good. */
export async function hardened(objects: number, progress: Progress = () => undefined): Promise<Bypasses> {
  const flags = ["--disable-proto=delete", "--disable-warning=ExperimentalWarning"];
  const child = fork(import.meta.filename, [], { execArgv: flags, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const answer = new Promise<Bypasses>((resolve) => {
    child.on("message", (told: string | Bypasses) => (typeof told === "string" ? progress(told) : resolve(told)));
  });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the process ended with ${String(code)}`);
  });
  child.send(objects);
  const found = await Promise.race([answer, ended]);
  ended.catch(() => undefined);
  child.disconnect();
  return found;
}

if (process.send !== undefined && process.argv[1] === import.meta.filename)
  process.once("message", (objects) => {
    // Made before: the generator assigns keys that a frozen prototype has.
    const given = fc.sample(legal, { seed: 1, numRuns: Math.min(2000, objects as number) });
    for (const prototype of [Object.prototype, Array.prototype, Function.prototype, String.prototype])
      Object.freeze(prototype);
    const tell = (told: string | Bypasses): void => void process.send?.(told);
    tell(campaign({ seed: 1, objects: objects as number, given }, tell));
  });

export const row: ScoreRow = {
  id: "A4",
  fault:
    "keys `__proto__`, `constructor`, `a/b~c` and their like anywhere in legal objects; prototypes frozen, `__proto__` deleted",
  required: "no pollution, no bypass, no 4xx: 0 of 100,000",
  run: async (progress) => {
    const { faults, ...counts } = await hardened(OBJECTS, progress);
    for (const fault of faults.slice(0, 10)) progress(fault.slice(0, 4000));
    return { figures: { ...counts, faults: faults.length }, met: faults.length === 0 };
  },
};
