/** Every golden result of admission, workloads and Pods, is taken by a real API server as it is: no unknown field, nothing invalid. */
import t from "tap";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseObjects } from "../../src/cli/input.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { pluralOf } from "../../src/kinds/resource.ts";
import { LWS } from "../../src/kinds/names.ts";
import { leaderWorkerSetCrd } from "./cluster/crds.ts";
import { eventually } from "./cluster/process.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { REPOSITORY } from "./cluster/paths.ts";

t.setTimeout(300_000);
const GOLDEN = join(REPOSITORY, "test", "golden");
const SETS = ["admission", "matrix"];
const FILES = ["expected.yaml", "expected-pods.yaml"];
/** Kinds that admission writes to: others of a case are its surroundings, and may be of APIs that are not installed. */
const KINDS = ["Deployment", "StatefulSet", "LeaderWorkerSet", "Pod"];
const AT_ONCE = 8;

interface Case {
  readonly name: string;
  readonly objects: readonly KubeObject[];
}

const objectsIn = (path: string): readonly KubeObject[] =>
  existsSync(path) && readFileSync(path, "utf8").trim() !== "" ? parseObjects(readFileSync(path, "utf8"), path) : [];

const cases: readonly Case[] = SETS.flatMap((set) =>
  readdirSync(join(GOLDEN, set), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => ({
      name: `${set}/${name}`,
      objects: FILES.flatMap((file) => objectsIn(join(GOLDEN, set, name, file))).filter(({ kind }) =>
        KINDS.includes(kind),
      ),
    })),
);

let cluster: Cluster;

t.before(async () => {
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.apply(await leaderWorkerSetCrd());
  await eventually("LeaderWorkerSets are served", () => cluster.api.list(`/apis/${LWS.apiVersion}/leaderworkersets`));
  const namespaces = new Set(
    cases.flatMap(({ objects }) => objects.map(({ metadata }) => metadata.namespace ?? "default")),
  );
  for (const name of namespaces) await cluster.apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name } }]);
});
t.teardown(() => cluster.stop());

const pathOf = ({ apiVersion, kind, metadata }: KubeObject): string => {
  const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${group}/namespaces/${metadata.namespace ?? "default"}/${pluralOf(kind)}?dryRun=All&fieldValidation=Strict`;
};

/** What the API server said against an object; undefined where it took it. */
async function refusal(object: KubeObject): Promise<string | undefined> {
  try {
    await cluster.api.post(pathOf(object), object);
    return undefined;
  } catch (error) {
    return `${object.kind} ${object.metadata.name ?? ""}: ${(error as Error).message}`;
  }
}

async function refusals({ name, objects }: Case): Promise<readonly string[]> {
  const found = await Promise.all(objects.map(refusal));
  return found.filter((one) => one !== undefined).map((one) => `${name}: ${one}`);
}

t.test("golden workloads and Pods are accepted", async (t) => {
  const refused: string[] = [];
  for (let first = 0; first < cases.length; first += AT_ONCE)
    refused.push(...(await Promise.all(cases.slice(first, first + AT_ONCE).map(refusals))).flat());
  t.same(refused, []);
  const count = cases.reduce((sum, { objects }) => sum + objects.length, 0);
  t.comment(`${cases.length} cases, ${count} objects`);
  t.ok(cases.length >= 80 && count >= 160, `${cases.length} cases with ${count} objects`);
});

t.test("and the question can be answered with no", async (t) => {
  const [first] = cases.find(({ objects }) => objects.length > 0)?.objects ?? [];
  t.type(await refusal({ ...first, spec: { nonsense: true } } as unknown as KubeObject), "string");
});
