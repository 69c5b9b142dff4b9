/** CRDs of others, read from the source of their Go modules and kept in the cache. */
import { copyFileSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { cached } from "./cache.ts";
import { moduleSource } from "./go-module.ts";

const VOLCANO = { path: "volcano.sh/volcano", version: "v1.15.1", folder: "config/crd/volcano/bases" };
const FILES = [
  // The scheduler waits for this one.
  "nodeinfo.volcano.sh_numatopologies.yaml",
  "scheduling.volcano.sh_podgroups.yaml",
  "scheduling.volcano.sh_queues.yaml",
  "topology.volcano.sh_hypernodes.yaml",
];

/** Names of the CRDs that `volcanoCrds` holds. */
export const VOLCANO_CRDS: readonly string[] = [
  "podgroups.scheduling.volcano.sh",
  "queues.scheduling.volcano.sh",
  "hypernodes.topology.volcano.sh",
  "numatopologies.nodeinfo.volcano.sh",
];

/** YAML of Volcano's PodGroup, Queue and HyperNode, and of what its scheduler reads besides. */
export async function volcanoCrds(): Promise<string> {
  const kept = await cached(`volcano-crds-${VOLCANO.version}`, async (target) => {
    const source = await moduleSource(VOLCANO.path, VOLCANO.version);
    for (const file of readdirSync(join(source, VOLCANO.folder)))
      copyFileSync(join(source, VOLCANO.folder, file), join(target, file));
  });
  return FILES.map((file) => readFileSync(join(kept, file), "utf8")).join("\n---\n");
}

const LWS = { path: "sigs.k8s.io/lws", version: "v0.8.0", folder: "config/crd/bases" };
const LWS_FILE = "leaderworkerset.x-k8s.io_leaderworkersets.yaml";

/** YAML of LeaderWorkerSet: 1.3 MB, to be applied on the server's side. Its controller and webhook are not there. */
export async function leaderWorkerSetCrd(): Promise<string> {
  const kept = await cached(`lws-crd-${LWS.version}`, async (target) => {
    const source = await moduleSource(LWS.path, LWS.version);
    copyFileSync(join(source, LWS.folder, LWS_FILE), join(target, LWS_FILE));
  });
  return readFileSync(join(kept, LWS_FILE), "utf8");
}

/** Module, version, and the files of it that define the kinds of gateways which `manifests/envoy` uses. */
const GATEWAYS = [
  {
    path: "sigs.k8s.io/gateway-api",
    version: "v1.6.3",
    files: ["gateways", "httproutes", "referencegrants"].map(
      (plural) => `config/crd/standard/gateway.networking.k8s.io_${plural}.yaml`,
    ),
  },
  {
    path: "sigs.k8s.io/gateway-api-inference-extension",
    version: "v1.0.0",
    files: ["config/crd/bases/inference.networking.k8s.io_inferencepools.yaml"],
  },
  {
    path: "github.com/envoyproxy/gateway",
    version: "v1.9.1",
    files: ["backendtrafficpolicies", "clienttrafficpolicies", "envoyextensionpolicies"].map(
      (plural) => `charts/gateway-helm/charts/crds/crds/generated/gateway.envoyproxy.io_${plural}.yaml`,
    ),
  },
  { path: "istio.io/api", version: "v1.31.1", files: ["kubernetes/customresourcedefinitions.gen.yaml"] },
] as const;

/** Definitions of the Gateway API, of InferencePool, of Envoy Gateway's policies, and of Istio: to be applied on the server's side. */
export async function gatewayCrds(): Promise<string> {
  const name = `gateway-crds-${GATEWAYS.map(({ version }) => version).join("-")}`;
  const kept = await cached(name, async (target) => {
    for (const { path, version, files } of GATEWAYS) {
      const source = await moduleSource(path, version);
      for (const file of files) copyFileSync(join(source, file), join(target, basename(file)));
    }
  });
  const files = GATEWAYS.flatMap(({ files }) => files.map((file) => basename(file)));
  const texts = files.flatMap((file) => readFileSync(join(kept, file), "utf8").split(/^---$/m));
  // Of Istio's one file with all of its kinds the one that is used: each takes a server seconds to serve.
  return texts.filter((text) => !text.includes("istio.io") || text.includes("kind: EnvoyFilter")).join("\n---\n");
}
