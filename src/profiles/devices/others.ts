/** Devices of other vendors, by the names of their own plugins: recognised, counted and requested whole. */
import { profile, type DeviceProfile } from "./profile.ts";

export const OTHERS: readonly DeviceProfile[] = [
  profile({ name: "amd", resource: "amd.com/gpu", vendor: "amd" }),
  profile({ name: "intel-xe", resource: "gpu.intel.com/xe", vendor: "intel" }),
  profile({ name: "intel-i915", resource: "gpu.intel.com/i915", vendor: "intel" }),
  profile({ name: "gaudi", resource: "habana.ai/gaudi", vendor: "intel" }),
  profile({ name: "google-tpu", resource: "google.com/tpu", vendor: "google" }),
  profile({ name: "aws-neuron", resource: "aws.amazon.com/neuron", vendor: "aws" }),
  profile({
    name: "aws-neuroncore",
    resource: "aws.amazon.com/neuroncore",
    fabric: "aws-neuron",
    vendor: "aws",
    share: true,
  }),
];
