/** CRDs of others, read from the source of their Go modules. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { moduleSource } from "./go-module.ts";

const VOLCANO = { path: "volcano.sh/volcano", version: "v1.15.1", folder: "config/crd/volcano/bases" };
const FILES = [
  "scheduling.volcano.sh_podgroups.yaml",
  "scheduling.volcano.sh_queues.yaml",
  "topology.volcano.sh_hypernodes.yaml",
];

/** Names of the CRDs that `volcanoCrds` holds. */
export const VOLCANO_CRDS: readonly string[] = [
  "podgroups.scheduling.volcano.sh",
  "queues.scheduling.volcano.sh",
  "hypernodes.topology.volcano.sh",
];

/** YAML of Volcano's PodGroup, Queue and HyperNode. */
export async function volcanoCrds(): Promise<string> {
  const source = await moduleSource(VOLCANO.path, VOLCANO.version);
  return FILES.map((file) => readFileSync(join(source, VOLCANO.folder, file), "utf8")).join("\n---\n");
}
