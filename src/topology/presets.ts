/** Node label keys by which vendors and clouds tell where a node stands, each list from the closest to the widest. */
import type { Config } from "../config/schema.ts";

type Preset = Exclude<Config["topology"]["preset"], "">;

const ZONES = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/**
 * Sources: Volcano's HyperNode discovery and Huawei CCE; Topograph's reference of node labels, whose keys changed in 0.3
 * and 1.0; NVIDIA's GPU feature discovery (`gpu.clique`: one NVLink domain over several nodes); MindCluster; the clouds'
 * own documentation. A level that no node carries makes no tier.
 */
const PRESETS: Readonly<Record<Preset, readonly string[]>> = {
  volcano: ["volcano.sh/hypernode", "volcano.sh/tor", "volcano.sh/hypercluster"],
  topograph: [
    "accelerator.topograph.run/sub-domain",
    "accelerator.topograph.run/domain",
    ...Array.from({ length: 5 }, (_, tier) => `fabric.topograph.run/tier-${tier}`),
  ],
  "topograph-0.3": ["accelerator", "leaf", "spine", "core"].map((level) => `network.topology.nvidia.com/${level}`),
  "topograph-0.1": ["accelerator", "block", "spine", "datacenter"].map(
    (level) => `network.topology.nvidia.com/${level}`,
  ),
  nvidia: ["nvidia.com/gpu.clique", ...ZONES],
  mindcluster: ["huawei.com/topotree.rackid", "huawei.com/topotree.superpodid"],
  aws: [...[3, 2, 1].map((layer) => `topology.k8s.aws/network-node-layer-${layer}`), ...ZONES],
  gcp: [...["host", "subblock", "block"].map((level) => `cloud.google.com/gce-topology-${level}`), ...ZONES],
  oci: ["oci.oraclecloud.com/host.rack_id", "oci.oraclecloud.com/host.network_block_id", ...ZONES],
  zones: ZONES,
};

/** The label levels of the configuration, closest first: its own, else those of the preset it names. */
export function labelLevels({ levels, preset }: Config["topology"]): readonly string[] {
  if (levels.length > 0 || preset === "") return levels;
  return PRESETS[preset];
}
