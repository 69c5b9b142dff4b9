import t from "tap";
import type { ResourceRequirements } from "../../../src/kinds/kube.ts";
import { BUILT_IN, deviceProfile, type Devices } from "../../../src/profiles/devices.ts";
import { countRule, mooncakePort, reservedPorts } from "../../../src/profiles/devices/product.ts";
import { deviceRequest } from "../../../src/profiles/devices/request.ts";
import { engineOfImage, findStart, imageVersion, mooncakeModule } from "../../../src/profiles/engines.ts";

const devices: Devices = { defaultProfile: "nvidia", profiles: BUILT_IN };

t.test("a device request is recognised by its resource, on limits before requests", (t) => {
  const asked = (resources: ResourceRequirements): string => {
    const found = deviceRequest({ name: "c", resources }, devices);
    return found === undefined ? "none" : `${found.count} ${found.device.name}`;
  };
  t.equal(asked({ limits: { "nvidia.com/gpu": 8 } }), "8 nvidia");
  t.equal(asked({ requests: { "huawei.com/Ascend910": "4" } }), "4 mindcluster-910");
  t.equal(
    asked({ limits: { "huawei.com/ascend-1980": "2" }, requests: { "huawei.com/ascend-1980": "1" } }),
    "2 cce-910",
  );
  t.equal(asked({ limits: { memory: "8Gi", "nvidia.com/gpu": "0" } }), "none");
  t.end();
});

t.test("counts follow the product that the node selector names", (t) => {
  const device = deviceProfile("mindcluster-910", devices);
  t.ok(device);
  if (device === undefined) return;
  const counts = (type: string): readonly number[] | undefined =>
    countRule(device, { containers: [], nodeSelector: { "accelerator-type": type } })?.counts;
  t.same(counts("module"), [1, 2, 4, 8]);
  t.same(counts("module-910b-16"), [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]);
  t.same(counts("module-a3-16"), [1, 2, 4, 6, 8, 10, 12, 14, 16]);
  t.equal(counts("card"), undefined, "an unknown product never refuses");
  t.equal(countRule(device, { containers: [] }), undefined);
  t.end();
});

t.test("handshake ports stay clear of what the transfer library binds", (t) => {
  for (const perNode of [8, 16, undefined])
    t.ok(mooncakePort(perNode) > reservedPorts(perNode).last, `${String(perNode)} devices a node`);
  t.end();
});

t.test("engines are told by image and command", (t) => {
  t.equal(engineOfImage("registry.example:5000/ascend/vllm-ascend:v0.13.0"), "vllm-ascend");
  t.equal(engineOfImage("registry.example.com/mirror/vllm/vllm-openai@sha256:0"), "vllm");
  t.equal(engineOfImage("lmsysorg/sglang:v0.5"), "sglang");
  t.equal(engineOfImage("nginx"), undefined);
  t.same(findStart(["tini", "--", "/usr/local/bin/vllm", "serve", "m"]), { engine: "vllm", first: 4 });
  t.same(findStart(["python3", "-u", "-m", "sglang.launch_server", "--tp", "2"]), { engine: "sglang", first: 4 });
  t.equal(findStart(["python3", "serve.py", "-m", "other"]), undefined);
  t.end();
});

t.test("vLLM-Ascend 0.11 to 0.13 must be told the connector's module, later ones must not", (t) => {
  t.same(imageVersion("ascend/vllm-ascend:v0.13.0rc1-a3"), [0, 13]);
  t.equal(imageVersion("registry:5000/vllm-ascend"), undefined);
  t.match(mooncakeModule("vllm-ascend:v0.11.0"), /mooncake_connector$/);
  t.equal(mooncakeModule("vllm-ascend:v0.18.0"), undefined);
  t.equal(mooncakeModule("vllm-ascend:main"), undefined);
  t.end();
});
