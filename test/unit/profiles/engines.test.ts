import t from "tap";
import {
  cachesByDefault,
  engineProfile,
  engineVersion,
  findStart,
  knowsLoadFailurePolicy,
  mooncakeModule,
  publishesEvents,
} from "../../../src/profiles/engines.ts";

t.test("versions: what an image tells, and what only looks like it", (t) => {
  const cases: [image: string, version: readonly [number, number] | undefined][] = [
    ["vllm/vllm-openai:v0.11.2", [11, 2]],
    ["registry:5000/vllm:0.20.0rc1-a3", [20, 0]],
    ["lmsysorg/sglang:v0.4.6.post2-cu124", [4, 6]],
    ["vllm:0.9", [9, 0]],
    ["vllm/vllm-openai:latest", undefined],
    ["vllm/vllm-openai", undefined],
    ["vllm/vllm-openai:nightly-aarch64", undefined],
    ["registry:5000/vllm", undefined],
    ["mine/vllm:1.4", undefined],
    ["mine/vllm:prod", undefined],
    ["vllm/vllm-openai@sha256:0123", undefined],
    ["vllm/vllm-openai:v0.11.2@sha256:0123", [11, 2]],
    // Their tags are versions of what is built around the engine.
    ["lmcache/vllm-openai:v0.3.9", undefined],
    ["lmcache/vllm-openai:latest", undefined],
    ["nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.6.0", undefined],
    ["ghcr.io/llm-d/llm-d-cuda:v0.3.0", undefined],
  ];
  for (const [image, version] of cases) t.same(engineVersion(image), version, image);
  t.end();
});

t.test("what a version has: a key that would stop the engine is given only where it is known", (t) => {
  const vllm = engineProfile("vllm");
  const of = (tag: string): boolean[] =>
    [`vllm:${tag}`].flatMap((image) => [
      publishesEvents(vllm, image),
      cachesByDefault(vllm, image),
      knowsLoadFailurePolicy(image),
    ]);
  t.same(of("v0.7.3"), [false, false, false]);
  t.same(of("v0.8.5"), [false, true, false]);
  t.same(of("v0.11.2"), [true, true, false]);
  t.same(of("v0.12.0"), [true, true, true]);
  t.same(of("latest"), [true, true, false], "whatever a node last pulled");
  t.same(of("prod"), [true, true, false], "an own tag");
  t.end();
});

t.test("modules of connectors that vLLM-Ascend does not register itself", (t) => {
  t.match(mooncakeModule("vllm-ascend:v0.13.0", "mooncake-layerwise"), /mooncake_layerwise_connector$/);
  t.equal(mooncakeModule("vllm-ascend:v0.18.0", "mooncake-layerwise"), undefined);
  t.equal(mooncakeModule("vllm-ascend:v0.13.0", "nixl"), undefined);
  t.end();
});

t.test("starts: by program, module and file; others are none", (t) => {
  const start = (...words: string[]): unknown => findStart(words);
  t.same(start("exec", "vllm", "serve", "m"), { engine: "vllm", first: 3 });
  t.same(start("python3", "-u", "-m", "sglang.launch_server", "--tp"), { engine: "sglang", first: 4 });
  t.same(start("python", "/x/vllm/entrypoints/openai/api_server.py"), { engine: "vllm", first: 2 });
  t.equal(start("python3", "train.py", "-m", "sglang.launch_server"), undefined, "an argument of another program");
  t.equal(start("vllm", "bench", "serve"), undefined);
  t.equal(start("constructor", "serve"), undefined);
  t.end();
});
