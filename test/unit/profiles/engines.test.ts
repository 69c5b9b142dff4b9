import t from "tap";
import { engineOfImage, findStart, imageVersion, mooncakeModule } from "../../../src/profiles/engines.ts";

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
