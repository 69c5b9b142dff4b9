/** CRDs of others, read from the source of their Go modules and kept in the cache. */
import { copyFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
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
