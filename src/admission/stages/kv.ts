/**
 * Stage kv: the engine's KV transfer configuration.
 *
 * The configuration is environment, and the argument refers to it: what must be known of the other role comes from the
 * cell's ConfigMap, and the kubelet holds the container back until that is written. A configuration of the user's own is
 * recognised and never doubled.
 */
import type { EnvVar } from "../../kinds/kube.ts";
import { ENGINE_ENV } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { CONNECTORS, transferConfig, type ConnectorProfile } from "../../profiles/connectors.ts";
import { jsonFlag, readCommand, type EngineCommand } from "../../workload/arguments.ts";
import { cellOf, sizesName } from "../../workload/cell.ts";
import { refersToOurs, TRANSFER_FLAG } from "../../workload/infer.ts";
import { append, type Wish } from "../change.ts";
import { containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";
import { envWishes } from "./engine.ts";

const NAME = ENGINE_ENV.kvTransferConfig;

/** The configuration itself, or where the controller writes it. */
function configuration({ spec }: StageContext): EnvVar {
  const value = transferConfig(spec.role, spec);
  if (value !== undefined) return { name: NAME, value };
  const name = sizesName(cellOf(spec), spec.compat);
  return { name: NAME, valueFrom: { configMapKeyRef: { name, key: spec.role } } };
}

/** NIXL's side channel listens on localhost unless it is told the address that the other side can reach. */
const sideChannel = ({ spec }: StageContext, profile: ConnectorProfile): EnvVar[] =>
  spec.connector !== "nixl"
    ? []
    : [
        {
          name: "VLLM_NIXL_SIDE_CHANNEL_HOST",
          valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } },
        },
        { name: "VLLM_NIXL_SIDE_CHANNEL_PORT", value: String(spec.kvPort ?? profile.port) },
      ];

/** A script that reads the variable passes it on by itself. */
const scriptPasses = (command: EngineCommand): boolean => command.script.includes(NAME);

export function kv(context: StageContext): StageResult {
  const { spec } = context;
  const profile = CONNECTORS[spec.connector];
  if (spec.connector === "none") return nothing("connector none: no KV transfer");
  if (profile === undefined || spec.engine === "sglang")
    return nothing(`Tandem does not configure ${spec.connector} for ${spec.engine}; give the engine's own arguments`);
  if (profile.needsBothSizes && spec.role === "both") return nothing(`${spec.connector} joins a prefill and a decode`);
  const command = readCommand(containerOf(context));
  const side = envWishes(context, sideChannel(context, profile));
  const { given } = jsonFlag(command.flags, TRANSFER_FLAG);
  if (given && !refersToOurs(command))
    return { changes: side, verdict: changed("KvInjected", `the given ${TRANSFER_FLAG} stands; addresses only`) };
  return injected(context, command, [...envWishes(context, [configuration(context)]), ...side]);
}

function injected(context: StageContext, command: EngineCommand, env: readonly Wish[]): StageResult {
  const { spec } = context;
  if (refersToOurs(command) || scriptPasses(command))
    return { changes: env, verdict: changed("KvInjected", `${spec.connector}; ${NAME} is passed`) };
  if (!spec.opaque) {
    const flag = append(inContainer(context, "args"), [TRANSFER_FLAG, `$(${NAME})`]);
    return { changes: [...env, flag], verdict: changed("KvInjected", `${spec.connector} as ${spec.role}`) };
  }
  return {
    changes: env,
    verdict: warned("EngineOpaque", `a script hides the arguments; it must pass ${TRANSFER_FLAG} "$${NAME}"`),
  };
}
