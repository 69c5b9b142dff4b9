/**
 * What stands around an engine in its Pod and what the Pod lies in: llm-d's sidecar, which runs prefill legs by itself,
 * and the domains by which distances are told. Only the Pod is read.
 */
import type { PrefillRunner } from "../kinds/endpoint.ts";
import { annotationOf, labelOf, type Container, type Pod } from "../kinds/kube.ts";
import { LABEL, STATUS } from "../kinds/names.ts";
import { readIntent } from "./intent.ts";
import { KEYS } from "./keys.ts";

/** `ghcr.io/llm-d/llm-d-routing-sidecar:v0.8.0`, in any registry. */
const SIDECAR = /\/llm-d-routing-sidecar[:@]|\/pd-sidecar[:@]/;
/** Its `--port` where it has none. */
const SIDECAR_PORT = 8000;

/** Who runs the prefill leg for this Pod, and the port that a sidecar takes requests at in the engine's place. */
export interface Runner {
  readonly prefillRunner: PrefillRunner;
  readonly port?: number;
}

/** As `tandem.sh/prefill-runner` says; else llm-d's sidecar where one is in the Pod. Undefined where it is the router. */
export function runnerOf(pod: Pod): Runner | undefined {
  const { key } = KEYS.prefillRunner;
  const intent = readIntent(annotationOf(pod, STATUS.intent));
  const said = KEYS.prefillRunner.parse(annotationOf(pod, key) ?? intent?.[key] ?? "");
  const port = sidecarPort(pod);
  if (said === "router" || (said === undefined && port === undefined)) return undefined;
  return { prefillRunner: "sidecar", ...(port === undefined ? {} : { port }) };
}

function sidecarPort({ spec }: Pod): number | undefined {
  const all = [...spec.containers, ...(spec.initContainers ?? [])];
  const sidecar = all.find(({ image = "" }) => SIDECAR.test(image));
  return sidecar === undefined ? undefined : listens(sidecar);
}

/** By its argument, `--port=8000` or `--port 8000`, else by the port that the container declares. */
function listens({ args = [], command = [], ports = [] }: Container): number {
  const words = [...command, ...args].flatMap((word) => word.split("="));
  const at = words.findIndex((word) => word === "--port" || word === "-port");
  const port = Number(at === -1 ? ports[0]?.containerPort : words[at + 1]);
  return isPort(port) ? port : SIDECAR_PORT;
}

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65536;

const ZONE = "topology.kubernetes.io/zone";

/**
 * Domains of the topology as the controller wrote them, and the node. Until it did, zone, cell, node: the zone where the
 * API server labels Pods with it (Kubernetes 1.35 on), the cell because the pods of one are placed close together and
 * those of another elsewhere. Undefined before the Pod has a node.
 */
export function domainsOf(pod: Pod): readonly string[] | undefined {
  const { nodeName } = pod.spec;
  if (nodeName === undefined || nodeName === "") return undefined;
  const written = annotationOf(pod, STATUS.domains) ?? "";
  if (written !== "") return [...written.split("/", 16), nodeName];
  return [pod.metadata.labels?.[ZONE] ?? "", labelOf(pod, LABEL.cell) ?? "0", nodeName];
}
