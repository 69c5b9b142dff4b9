/** What is read of a container's command, for tables of the forms in which engines are started. */
import type { Container } from "../../src/kinds/kube.ts";
import { UNCONFIGURED } from "../../src/profiles/devices.ts";
import { servedNames } from "../../src/workload/arguments.ts";
import { infer } from "../../src/workload/infer.ts";

/** What is read, in one line: what is not known is left out, and `open` means that appended arguments reach the engine. */
export function reading(container: Omit<Container, "name">): string {
  const found = infer({ spec: { containers: [{ name: "engine", ...container }] } }, { devices: UNCONFIGURED });
  if (found === undefined) return "nothing";
  const { command, engine, sizes, sizesHidden, portFlag, transfer, events, dataParallelMode } = found;
  const facts: [string, unknown][] = [
    ...Object.entries(sizes).map(([key, value]): [string, unknown] => [key, value]),
    ["hidden", sizesHidden || undefined],
    ["port", portFlag],
    ["mode", dataParallelMode === "internal" ? undefined : dataParallelMode],
    ["model", servedNames(command.flags, engine.id).join() || undefined],
    ["kv", transfer === undefined ? undefined : [transfer.connector ?? "?", transfer.role].filter(Boolean).join(":")],
    ["events", events?.port],
  ];
  const known = facts.filter(([, value]) => value !== undefined).map(([key, value]) => `${key}=${String(value)}`);
  return [engine.id, command.opaque ? "script" : "open", ...known].join(" ");
}

export const VLLM = "vllm/vllm-openai:v0.11.0";
export const ASCEND = "quay.io/ascend/vllm-ascend:v0.13.0";
export const SGLANG = "lmsysorg/sglang:v0.5.3";
export const sh = (script: string, ...rest: string[]): Pick<Container, "command" | "args"> => ({
  command: ["/bin/sh", "-c"],
  args: [script, ...rest],
});
export const TRANSFER = '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}';

export type Case = readonly [name: string, container: Omit<Container, "name">, read: string];
