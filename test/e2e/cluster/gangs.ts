/** Gangs of two Deployments in the test cluster: how they are written, and what of them is bound. */
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { LABEL } from "../../../src/kinds/names.ts";
import { isHeld } from "../../../src/gang/waiting.ts";
import type { Cluster } from "./control-plane.ts";
import { eventually } from "./process.ts";

export const DEVICE = "nvidia.com/gpu";

export interface GangShape {
  /** Of the service; its Deployments are `NAME-prefill` and `NAME-decode`. */
  readonly name: string;
  readonly prefill: number;
  readonly decode: number;
  /** Devices of each pod; default 8: a whole node. */
  readonly devices?: number;
  /** Of the devices; default nvidia.com/gpu. */
  readonly resource?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Merged into the spec of the pods. */
  readonly podSpec?: object;
  /** False: without Tandem's labels. */
  readonly labelled?: boolean;
}

type GangRole = "prefill" | "decode";
const ROLES: readonly GangRole[] = ["prefill", "decode"];

/** Both Deployments. The gang is every replica, unless an annotation says otherwise. */
export function gangDeployments(gang: GangShape): KubeObject[] {
  return ROLES.map((role) => deploymentOf(gang, role));
}

function deploymentOf(gang: GangShape, role: GangRole): KubeObject {
  const app = `${gang.name}-${role}`;
  const labels = gang.labelled === false ? {} : { [LABEL.model]: gang.name, [LABEL.role]: role };
  const minimum = `prefill=${gang.prefill},decode=${gang.decode}`;
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: app,
      labels,
      annotations: gang.labelled === false ? {} : { "tandem.sh/gang": minimum, ...gang.annotations },
    },
    spec: {
      replicas: gang[role],
      selector: { matchLabels: { app } },
      template: {
        metadata: { labels: { app, model: gang.name } },
        spec: {
          terminationGracePeriodSeconds: 0,
          ...gang.podSpec,
          containers: [
            {
              name: "engine",
              image: "vllm/vllm-openai:v0.15.0",
              args: ["--model", "m", "--port", "8000"],
              resources: { limits: { [gang.resource ?? DEVICE]: String(gang.devices ?? 8) } },
            },
          ],
        },
      },
    },
  };
}

const path = (namespace: string): string => `/apis/apps/v1/namespaces/${namespace}/deployments`;

/** Every Deployment at once, so that which pod comes first is chance. */
export async function createGangs(cluster: Cluster, namespace: string, gangs: readonly GangShape[]): Promise<void> {
  const all = gangs.map(gangDeployments);
  // Decode of the one beside prefill of the other: whoever places pod by pod splits them.
  const order = [...all.map(([prefill]) => prefill), ...all.map(([, decode]) => decode)];
  await Promise.all(order.map((object) => cluster.api.post(path(namespace), object as KubeObject)));
}

export async function removeGang(cluster: Cluster, namespace: string, name: string): Promise<void> {
  for (const role of ROLES) await cluster.api.remove(`${path(namespace)}/${name}-${role}`);
  await eventually(`${name} is gone`, async () =>
    (await cluster.pods(namespace, `model=${name}`)).length === 0 ? true : undefined,
  );
}

export const scale = (cluster: Cluster, namespace: string, name: string, replicas: number): Promise<KubeObject> =>
  cluster.api.patch(`${path(namespace)}/${name}`, "merge-patch", { spec: { replicas } });

/** What a gang holds at one moment. */
export interface Standing {
  /** Neither ended nor going. */
  readonly pods: readonly Pod[];
  readonly bound: readonly Pod[];
  readonly running: number;
  readonly held: number;
}

export async function standing(cluster: Cluster, namespace: string, name: string): Promise<Standing> {
  const all = await cluster.pods(namespace, `model=${name}`);
  const pods = all.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const bound = pods.filter(({ spec }) => spec.nodeName !== undefined);
  const running = bound.filter(({ status }) => status?.phase === "Running").length;
  return { pods, bound, running, held: pods.filter(isHeld).length };
}

export const isWhole = ({ pods, running }: Standing, { prefill, decode }: GangShape): boolean =>
  pods.length === prefill + decode && running === prefill + decode;

export const whole = (cluster: Cluster, namespace: string, gang: GangShape, withinMs?: number): Promise<Standing> =>
  eventually(
    `${gang.name} runs whole`,
    async () => {
      const found = await standing(cluster, namespace, gang.name);
      if (isWhole(found, gang)) return found;
      throw new Error(`${found.pods.length} pods, ${found.bound.length} bound, ${found.running} run`);
    },
    withinMs,
  );
