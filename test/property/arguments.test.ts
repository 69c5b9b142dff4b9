/** What must hold for every command: each argument reaches the engine once, the user's stand as they were written. */
import fc from "fast-check";
import t from "tap";
import { admitPod } from "../../src/admission/admit.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Container, Pod } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { isDenied } from "../../src/kinds/verdict.ts";
import { engineProfile, type EngineId } from "../../src/profiles/engines.ts";
import { readCommand } from "../../src/workload/arguments.ts";

const settings = { ...loadConfig({}).admission, target: "pod" as const };

/** A flag as the user spells it: any of its names, with a dash or an underscore, glued or apart. */
const spelled = (names: readonly string[], value: fc.Arbitrary<string>): fc.Arbitrary<string[]> =>
  fc.tuple(fc.constantFrom(...names), value, fc.boolean(), fc.boolean()).map(([name, text, glued, underscores]) => {
    const flag = underscores ? name.replace(/(?<=[a-z])-/g, "_") : name;
    return glued ? [`${flag}=${text}`] : [flag, text];
  });

const some = (words: fc.Arbitrary<string[]>): fc.Arbitrary<string[]> => fc.oneof(fc.constant<string[]>([]), words);
const sizes = fc.constantFrom("1", "2", "4", "8");

const TRANSFER = '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}';
const EVENTS = '{"enable_kv_cache_events":true,"publisher":"zmq"}';

const vllmFlags = (id: EngineId): fc.Arbitrary<string[]>[] => {
  const { names } = engineProfile(id);
  return [
    some(spelled(names.tp, sizes)),
    some(spelled(names.pp, fc.constantFrom("1", "2"))),
    some(spelled(names.port, fc.constantFrom("8000", "9000"))),
    some(spelled(names.served, fc.constantFrom("q", "r"))),
    some(spelled(["--max-model-len", "--seed"], fc.constantFrom("-1", "1024"))),
    some(fc.constant(["--trust-remote-code"])),
  ];
};

const FLAGS: Readonly<Record<EngineId, readonly fc.Arbitrary<string[]>[]>> = {
  vllm: [
    ...vllmFlags("vllm"),
    some(spelled(["--kv-transfer-config"], fc.constant(TRANSFER))),
    some(spelled(["--kv-events-config"], fc.constant(EVENTS))),
  ],
  "vllm-ascend": [...vllmFlags("vllm-ascend"), some(spelled(["--kv-events-config"], fc.constant(EVENTS)))],
  sglang: [
    ...vllmFlags("sglang"),
    some(spelled(["--host"], fc.constant("::"))),
    some(spelled(["--page-size"], fc.constantFrom("1", "64"))),
    some(spelled(["--disaggregation-mode"], fc.constant("prefill"))),
    some(fc.constant(["--enable-metrics"])),
  ],
};

const IMAGES: Readonly<Record<EngineId, readonly string[]>> = {
  vllm: ["vllm/vllm-openai:v0.9.2", "vllm/vllm-openai:v0.11.0", "vllm/vllm-openai:latest"],
  "vllm-ascend": ["ascend/vllm-ascend:v0.13.0", "ascend/vllm-ascend:v0.18.0"],
  sglang: ["lmsysorg/sglang:v0.5.3"],
};

const START: Readonly<Record<EngineId, readonly string[]>> = {
  vllm: ["vllm", "serve"],
  "vllm-ascend": ["vllm", "serve"],
  sglang: ["python3", "-m", "sglang.launch_server", "--model-path"],
};

type Form = "entrypoint" | "args" | "command" | "script";

function containerOf(engine: EngineId, form: Form, words: readonly string[]): Partial<Container> {
  const start = START[engine];
  if (form === "args") return { args: [...start, ...words] };
  if (form === "command") return { command: [...start, ...words] };
  if (form === "script") return { command: ["sh", "-c", `exec ${start.join(" ")} "$@"`, "engine"], args: [...words] };
  return engine === "vllm" ? { args: [...words] } : { command: [...start], args: [...words] };
}

const starts = fc
  .record({
    engine: fc.constantFrom<EngineId[]>("vllm", "vllm-ascend", "sglang"),
    form: fc.constantFrom<Form[]>("entrypoint", "args", "command", "script"),
    image: fc.nat(),
    declared: fc.constantFrom("", "tp=2", "tp=4,dp=2,dp-local=1,ep=2"),
  })
  .chain((start) => fc.tuple(...FLAGS[start.engine]).map((flags) => ({ ...start, words: ["m", ...flags.flat()] })));

type Start = typeof starts extends fc.Arbitrary<infer T> ? T : never;

const podOf = ({ engine, form, image, declared, words }: Start): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "p",
    namespace: "n",
    labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" },
    annotations: declared === "" ? {} : { "tandem.sh/parallelism": declared },
  },
  spec: {
    containers: [
      {
        name: "engine",
        image: IMAGES[engine][image % IMAGES[engine].length] ?? "",
        resources: { limits: { [engine === "vllm-ascend" ? "huawei.com/Ascend910" : "nvidia.com/gpu"]: "8" } },
        ...containerOf(engine, form, words),
      },
    ],
  },
});

const allWords = ({ command, args }: Container): readonly string[] => [...(command ?? []), ...(args ?? [])];

/** The name that all spellings of a flag share. */
function plainName(engine: EngineId, word: string): string {
  const flag = (word.split("=")[0] ?? "").replaceAll("_", "-");
  const all: readonly (readonly string[])[] = Object.values(engineProfile(engine).names);
  return all.find((names) => names.includes(flag))?.[0] ?? flag;
}

const flagsOf = (engine: EngineId, words: readonly string[]): string[] =>
  words.filter((word) => /^--?[A-Za-z]/.test(word)).map((word) => plainName(engine, word));

/** What the engine cannot do without in the role prefill. */
const NEEDED: Readonly<Record<EngineId, readonly string[]>> = {
  vllm: ["--kv-transfer-config"],
  "vllm-ascend": ["--kv-transfer-config", "--kv-events-config"],
  sglang: ["--disaggregation-mode", "--host", "--enable-metrics"],
};

const fail = (message: string, found: unknown): never => {
  throw new Error(`${message}: ${JSON.stringify(found)}`);
};

t.test("every argument stands once, and the user's as they were", (test) => {
  let admitted = 0;
  fc.assert(
    fc.property(starts, (start) => {
      const pod = podOf(start);
      const result = admitPod(pod, { snapshot: EMPTY_SNAPSHOT, settings });
      if (result.verdicts.some(isDenied)) return;
      admitted++;
      const [before, after] = [pod, result.object as Pod].map((one) => one.spec.containers[0] ?? { name: "" });
      if (before === undefined || after === undefined) return;
      const [given, found] = [allWords(before), allWords(after)];
      if (JSON.stringify(found.slice(0, given.length)) !== JSON.stringify(given)) fail("changed", found);
      const flags = flagsOf(
        start.engine,
        start.form === "script" ? found.slice(4) : found.filter((word) => word !== "-m"),
      );
      if (new Set(flags).size !== flags.length) fail("doubled", found);
      const missing = NEEDED[start.engine].filter((flag) => !flags.includes(flag));
      if (missing.length > 0) fail(`missing ${missing.join()}`, found);
      const command = readCommand(after);
      if (command.opaque || !command.found) fail("not read again", found);
    }),
    { numRuns: 600 },
  );
  test.ok(admitted > 200, `${admitted} were admitted`);
  test.end();
});
