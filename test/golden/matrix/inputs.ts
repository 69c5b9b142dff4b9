/**
 * What people write: one Deployment for each engine, device dialect, role and scheduler that go together.
 *
 * The table decides which directories exist and what their `input.yaml` says; the test holds both to it.
 */
import { stringify } from "yaml";

type Role = "prefill" | "decode" | "both";
type Scheduler = "default" | "volcano";

interface Engine {
  readonly image: string;
  readonly command?: readonly string[];
  readonly args: (devices: number) => readonly string[];
}

const MODEL = "Qwen/Qwen3-32B";

const ENGINES = {
  vllm: {
    image: "vllm/vllm-openai:v0.13.0",
    args: (devices) => ["--model", MODEL, "--tensor-parallel-size", String(devices)],
  },
  "vllm-ascend": {
    image: "ascend/vllm-ascend:v0.13.0",
    command: ["vllm", "serve"],
    args: (devices) => [MODEL, "--tensor-parallel-size", String(devices)],
  },
  sglang: {
    image: "lmsysorg/sglang:v0.5.6",
    command: ["python3", "-m", "sglang.launch_server"],
    args: (devices) => ["--model-path", MODEL, "--tp", String(devices), "--host", "0.0.0.0"],
  },
} as const satisfies Readonly<Record<string, Engine>>;

/** A request as its device plugin wants it, on the nodes that its users select. */
interface Device {
  readonly engines: readonly (keyof typeof ENGINES)[];
  readonly count: number;
  readonly limits: Readonly<Record<string, string>>;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  /** The plugin wants them written out. */
  readonly requests?: true;
}

const accelerator = (type: string): Readonly<Record<string, string>> => ({ "accelerator-type": type });

const DEVICES: Readonly<Record<string, Device>> = {
  nvidia: { engines: ["vllm", "sglang"], count: 4, limits: { "nvidia.com/gpu": "4" } },
  "nvidia-mig": { engines: ["vllm", "sglang"], count: 1, limits: { "nvidia.com/mig-3g.40gb": "1" } },
  "nvidia-shared": { engines: ["vllm"], count: 1, limits: { "nvidia.com/gpu.shared": "1" } },
  "hami-nvidia": {
    engines: ["vllm", "sglang"],
    count: 1,
    limits: { "nvidia.com/gpu": "1", "nvidia.com/gpumem": "40000", "nvidia.com/gpucores": "50" },
  },
  "volcano-vgpu": {
    engines: ["vllm"],
    count: 1,
    limits: { "volcano.sh/vgpu-number": "1", "volcano.sh/vgpu-memory": "40000" },
  },
  amd: { engines: ["vllm", "sglang"], count: 4, limits: { "amd.com/gpu": "4" } },
  "intel-xe": { engines: ["vllm"], count: 2, limits: { "gpu.intel.com/xe": "2" } },
  gaudi: { engines: ["vllm"], count: 4, limits: { "habana.ai/gaudi": "4" } },
  "mindcluster-a2": {
    engines: ["vllm-ascend"],
    count: 4,
    limits: { "huawei.com/Ascend910": "4" },
    nodeSelector: accelerator("module-910b-8"),
  },
  "mindcluster-a3": {
    engines: ["vllm-ascend", "sglang"],
    count: 8,
    limits: { "huawei.com/Ascend910": "8" },
    nodeSelector: accelerator("module-a3-16"),
  },
  "mindcluster-310p": { engines: ["vllm-ascend"], count: 2, limits: { "huawei.com/Ascend310P": "2" } },
  "mindcluster-a5": { engines: ["vllm-ascend"], count: 8, limits: { "huawei.com/npu": "8" } },
  "mindcluster-vnpu": { engines: ["vllm-ascend"], count: 1, limits: { "huawei.com/Ascend910-16c": "1" } },
  cce: { engines: ["vllm-ascend"], count: 4, limits: { "huawei.com/ascend-1980": "4" }, requests: true },
  "hami-ascend": {
    engines: ["vllm-ascend"],
    count: 1,
    limits: { "huawei.com/Ascend910B3": "1", "huawei.com/Ascend910B3-memory": "32768" },
  },
};

const ROLES: readonly Role[] = ["prefill", "decode", "both"];
const SCHEDULERS: readonly Scheduler[] = ["default", "volcano"];

export interface MatrixCase {
  /** `vllm-on-nvidia-as-prefill-under-volcano`. */
  readonly name: string;
  /** YAML of one Deployment. */
  readonly input: string;
}

/** HAMi's webhook gives its own scheduler to the pods it takes; Volcano shares NVIDIA devices by its own resources. */
const together = (device: string, scheduler: Scheduler): boolean =>
  !(device.startsWith("hami-") && scheduler === "volcano") && !(device === "volcano-vgpu" && scheduler === "default");

/** Every case, in the order of the tables. */
export function matrixCases(): readonly MatrixCase[] {
  const pairs = Object.entries(DEVICES).flatMap(([name, device]) =>
    device.engines.map((engine) => ({ name, device, engine })),
  );
  return pairs.flatMap(({ name, device, engine }) =>
    ROLES.flatMap((role) =>
      SCHEDULERS.filter((scheduler) => together(name, scheduler)).map((scheduler) => ({
        name: `${engine}-on-${name}-as-${role}-under-${scheduler}`,
        input: stringify(deployment({ engine, device, role, scheduler }), { lineWidth: 0, aliasDuplicateObjects: false }),
      })),
    ),
  );
}

interface Choice {
  readonly engine: keyof typeof ENGINES;
  readonly device: Device;
  readonly role: Role;
  readonly scheduler: Scheduler;
}

const annotations = ({ role, scheduler }: Choice): Record<string, string> => ({
  ...(role === "both" ? { "tandem.sh/mode": "manage" } : {}),
  ...(scheduler === "volcano" ? { "tandem.sh/scheduler": "volcano" } : {}),
});

function deployment(choice: Choice): object {
  const { role } = choice;
  const given = annotations(choice);
  const labels = { app: `qwen3-32b-${role}` };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: `qwen3-32b-${role}`,
      namespace: "default",
      labels: { "tandem.sh/model": "qwen3-32b", "tandem.sh/role": role },
      ...(Object.keys(given).length === 0 ? {} : { annotations: given }),
    },
    spec: {
      replicas: 2,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: podSpec(choice) },
    },
  };
}

function podSpec({ engine, device }: Choice): object {
  const { image, args, ...rest }: Engine = ENGINES[engine];
  const resources = { limits: device.limits, ...(device.requests === true ? { requests: device.limits } : {}) };
  return {
    ...(device.nodeSelector === undefined ? {} : { nodeSelector: device.nodeSelector }),
    containers: [
      {
        name: "engine",
        image,
        ...(rest.command === undefined ? {} : { command: rest.command }),
        args: args(device.count),
        resources,
      },
    ],
  };
}
