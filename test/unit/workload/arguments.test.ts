import t from "tap";
import { jsonFlag, readCommand, readFlags, servedNames } from "../../../src/workload/arguments.ts";
import { shellCommands } from "../../../src/workload/shell.ts";

const known = new Map([["TP", "8"]]);

t.test("shell scripts: the words of each command", (t) => {
  const cases: [script: string, words: string[][]][] = [
    ["vllm serve m --a 1", [["vllm", "serve", "m", "--a", "1"]]],
    ["a 'b c' \"d $TP\" e\\ f", [["a", "b c", "d 8", "e f"]]],
    ["a \\\n  b # no comment\nc", [["a", "b"], ["c"]]],
    ["x=1 && y --n ${TP:-2} ${NO:-3} $NO", [["x=1"], ["y", "--n", "8", "3", "$NO"]]],
    ["a 2>&1 | tee log; b", [["a"], ["tee", "log"], ["b"]]],
    [
      "export TP=4; a $TP",
      [
        ["export", "TP=4"],
        ["a", "4"],
      ],
    ],
    ["a --ip $(hostname -i | head -1) b", [["a", "--ip", "$(hostname -i | head -1)", "b"]]],
    [
      "a --n $((2 * (1 + 3))) --m `nproc; x` $(b $(c)) d",
      [["a", "--n", "$((2 * (1 + 3)))", "--m", "`nproc; x`", "$(b $(c))", "d"]],
    ],
    ['a "$@" $* e', [["a", "$@", "$*", "e"]]],
    [`a --json '{"k": "v"}'`, [["a", "--json", '{"k": "v"}']]],
    ["a 'never closed", [["a", "never closed"]]],
    ["", []],
  ];
  for (const [script, words] of cases) t.same(shellCommands(script, { variables: known }), words, script);
  t.same(
    shellCommands("a ${NO:-3} $TP", { variables: known, open: true }),
    [["a", "${NO:-3}", "8"]],
    "a default proves nothing",
  );
  t.same(shellCommands("a ".repeat(50000), { variables: known }), [], "an endless script is not read");
  t.end();
});

t.test("flags: forms, underscores, repetition, negative numbers", (t) => {
  const { values, positional } = readFlags([
    "model",
    "--tensor_parallel_size=4",
    "--seed",
    "-1",
    "--lora-modules",
    "a=/x",
    "b=/y",
    "--port",
    "1",
    "--port",
    "2",
    "-dp",
    "2",
  ]);
  t.same(positional, ["model"]);
  t.same(Object.fromEntries(values), {
    "--tensor-parallel-size": ["4"],
    "--seed": ["-1"],
    "--lora-modules": ["a=/x", "b=/y"],
    "--port": ["2"],
    "-dp": ["2"],
  });
  t.end();
});

t.test("commands: where arguments reach the engine and where not", (t) => {
  const read = (container: object): string => {
    const { engine, found, opaque } = readCommand({ name: "c", ...container });
    return `${engine ?? "?"} ${found ? "found" : "hidden"} ${opaque ? "opaque" : "open"}`;
  };
  t.equal(read({ image: "vllm/vllm-openai", args: ["--model", "m"] }), "vllm found open");
  t.equal(read({ image: "mine", command: ["vllm", "serve", "m"] }), "vllm found open");
  t.equal(read({ image: "ascend/vllm-ascend", command: ["vllm", "serve", "m"] }), "vllm-ascend found open");
  t.equal(read({ image: "ascend/vllm-ascend" }), "vllm-ascend hidden opaque");
  t.equal(read({ image: "vllm/vllm-openai", command: ["/start.sh"] }), "vllm hidden opaque");
  t.equal(read({ image: "x", command: ["bash", "-lc"], args: ["exec vllm serve m"] }), "vllm found opaque");
  t.equal(read({ image: "x", command: ["sh", "-c", "./run.sh"] }), "? hidden opaque");
  t.end();
});

t.test("variables of Kubernetes are resolved from literal environment only", (t) => {
  const { flags } = readCommand({
    name: "c",
    image: "vllm/vllm-openai",
    args: ["--tensor-parallel-size", "$(TP)", "--port", "$(PORT)", "--seed", "$$(TP)"],
    env: [
      { name: "TP", value: "2" },
      { name: "PORT", valueFrom: {} },
    ],
  });
  t.same(flags.values.get("--tensor-parallel-size"), ["2"]);
  t.same(flags.values.get("--port"), ["$(PORT)"]);
  t.same(flags.values.get("--seed"), ["$$(TP)"]);
  t.end();
});

t.test("JSON arguments: whole, dotted, broken", (t) => {
  const flag = (...words: string[]): unknown => jsonFlag(readFlags(words), "--kv");
  t.same(flag("--kv", '{"a":{"b":1}}'), { given: true, value: { a: { b: 1 } } });
  t.same(flag("--kv.a.b", "1", "--kv.c=2"), { given: true, value: { a: { b: "1" }, c: "2" } });
  t.same(flag("--kv", "{"), { given: true, value: {} });
  t.same(flag("--other"), { given: false, value: {} });
  jsonFlag(readFlags(["--kv.__proto__.polluted", "1"]), "--kv");
  t.equal(({} as Record<string, unknown>)["polluted"], undefined);
  t.end();
});

t.test("served names replace the model, LoRA modules are added, hidden ones are left out", (t) => {
  const names = (...words: string[]): readonly string[] => servedNames(readFlags(words), "vllm");
  t.same(names("Qwen/Q"), ["Qwen/Q"]);
  t.same(names("--model", "Qwen/Q", "--served-model-name", "a", "b"), ["a", "b"]);
  t.same(names("m", "--lora-modules", "l1=/p", '{"name":"l2","path":"/q"}'), ["m", "l1", "l2"]);
  t.same(names("--model", "$(MODEL)"), []);
  t.end();
});
