/** NVIDIA devices: by NVIDIA's own plugin whole, as MIG slices and time-shared; by HAMi's and Volcano's as shares. */
import { companion, profile, type DeviceProfile, type Given } from "./profile.ts";

const nvidia = (given: Given): DeviceProfile => profile({ fabric: "nvidia", vendor: "nvidia", ...given });

export const NVIDIA: readonly DeviceProfile[] = [
  nvidia({ name: "nvidia", resource: "nvidia.com/gpu" }),
  // MIG strategy `mixed`: one resource for each geometry, as nvidia.com/mig-3g.40gb.
  nvidia({ name: "nvidia-mig", resource: "nvidia.com/mig-*", share: true }),
  // Time-slicing with `renameByDefault`.
  nvidia({ name: "nvidia-shared", resource: "nvidia.com/gpu.shared", share: true }),
  nvidia({
    name: "hami-nvidia",
    resource: "nvidia.com/gpu",
    companions: ["gpumem", "gpumem-percentage", "gpucores", "priority"].map((name) => companion(`nvidia.com/${name}`)),
    share: true,
    scheduler: "webhook",
    // HAMi binds one pod of a node at a time, and tries a refused one again only where it carries this label.
    labels: { "scheduling.x-k8s.io/pod-group": "{cell}" },
  }),
  nvidia({
    name: "volcano-vgpu",
    resource: "volcano.sh/vgpu-number",
    companions: ["memory", "memory-percentage", "cores"].map((name) => companion(`volcano.sh/vgpu-${name}`)),
    share: true,
    scheduler: "volcano",
  }),
];
