/**
 * A KubeReader and KubeWriter over objects in memory, for races: every call takes a random while, creates and patches
 * conflict as at the API server, and some conflict without a reason.
 */
import { setImmediate as turn } from "node:timers/promises";
import jsonpatch from "fast-json-patch";
import { KubeError } from "../../src/kinds/kube-error.ts";
import type { KubeObject, ObjectRef } from "../../src/kinds/kube.ts";
import { refOf } from "../../src/kinds/resource.ts";
import type { KubeReader, KubeWriter } from "../../src/ports.ts";

export interface Objects extends KubeReader, KubeWriter {
  readonly find: (plural: string, name: string) => KubeObject | undefined;
  put(object: KubeObject): void;
}

export interface RaceOptions {
  /** [0, 1) */
  readonly random: () => number;
  /** Share of writes that are refused with 409 although nobody else wrote. */
  readonly spurious: number;
  /** Called after every write that was taken. */
  readonly written?: (object: KubeObject) => void;
}

const MOST_TURNS = 12;
const conflict = (reason: string): KubeError => new KubeError({ status: 409, reason, message: reason });
const unused = (): Promise<never> => Promise.reject(new Error("not part of this stand-in"));

export function createObjects({ random, spurious, written = () => undefined }: RaceOptions): Objects {
  const objects = new Map<string, KubeObject>();
  let version = 0;
  const keyOf = ({ plural, name }: Pick<ObjectRef, "plural" | "name">): string => `${plural}/${name}`;
  const store = (object: KubeObject): KubeObject => {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } };
    objects.set(keyOf(refOf(object)), stored);
    written(stored);
    return stored;
  };
  const travel = async (): Promise<void> => {
    for (let turns = Math.floor(random() * MOST_TURNS); turns >= 0; turns--) await turn();
  };
  /** There, done, and back: others come in between on both ways. */
  const write = async (act: () => KubeObject): Promise<KubeObject> => {
    await travel();
    if (random() < spurious) throw conflict("Conflict");
    const result = act();
    await travel();
    return result;
  };
  return {
    find: (plural, name) => objects.get(keyOf({ plural, name })),
    put: (object) => void store(object),
    get: async (ref) => {
      await travel();
      const found = structuredClone(objects.get(keyOf(ref)));
      await travel();
      return found;
    },
    create: (object) =>
      write(() => {
        if (objects.has(keyOf(refOf(object)))) throw conflict("AlreadyExists");
        return store(object);
      }),
    patch: (ref, _type, body) =>
      write(() => {
        const found = objects.get(keyOf(ref));
        if (found === undefined) throw new KubeError({ status: 404, reason: "NotFound", message: ref.name });
        const { newDocument } = jsonpatch.applyPatch(structuredClone(found), body as jsonpatch.Operation[], true);
        if (newDocument.metadata.resourceVersion !== found.metadata.resourceVersion) throw conflict("Conflict");
        return store(newDocument);
      }),
    list: unused,
    apply: unused,
    remove: unused,
    event: unused,
  };
}
