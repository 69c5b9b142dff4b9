/** Checks of KV transfer: connector and engine, the role in the arguments, identities and port ranges. */
import { ANNOTATION } from "../../kinds/names.ts";
import { denied, warned } from "../../kinds/verdict.ts";
import { connectorProfile, connectorsOf, isHandedOver, prefillsAlone } from "../../profiles/connectors.ts";
import { countRule, reservedPorts } from "../../profiles/devices/product.ts";
import { roleName, SGLANG_TRANSFER } from "../../profiles/transfer.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { Check } from "./check.ts";

/** What the user's own arguments load stands, whatever it is. */
const connector: Check = ({ spec, inferred }) => {
  const { connector: name, engine } = spec;
  if (name === "none" || inferred.transfer !== undefined || connectorProfile(name, engine) !== undefined) return [];
  const accepted = [...connectorsOf(engine), "none"].join(", ");
  return [
    denied("KvContradict", `${ANNOTATION.kvConnector} is ${name}, but engine ${engine} has ${accepted}`, {
      subject: ANNOTATION.kvConnector,
    }),
  ];
};

const kvRole: Check = ({ spec, inferred }) => {
  const given = inferred.transfer?.role;
  if (given === undefined || given === "both" || given === spec.role) return [];
  const [what, told, wanted] =
    spec.engine === "sglang"
      ? [SGLANG_TRANSFER.mode, given, spec.role]
      : ["kv_role", roleName(given), roleName(spec.role)];
  return [denied("KvContradict", `${what} ${told} in the arguments, but the role is ${spec.role}; give ${wanted}`)];
};

/** Decoders cache addresses by engine_id: two engines with one id give reads from the wrong one. */
const engineId: Check = ({ spec, inferred }) => {
  const id = inferred.transfer?.engineId;
  if (id === undefined || id.includes("$") || spec.kind === "Pod") return [];
  // A rollout runs the old pod beside the new one, and scaling does not come by here.
  if (spec.replicas < 2)
    return [warned("KvEngineIdShared", `engine_id "${id}" would be shared with every further pod; leave it out`)];
  return [
    denied(
      "KvEngineIdShared",
      `engine_id "${id}" would be shared by ${spec.replicas} replicas; leave it out, or make it of the pod's uid`,
    ),
  ];
};

const LAST_PORT = 65535;

/** Every rank has its own, counted from `kv_port` over all data-parallel ranks. */
const handshakePorts = ({ parallelism: { dp, tp, pp, pcp } }: WorkloadSpec): number => dp * tp * pp * pcp;

const perDevice = ({ connector: name, engine }: WorkloadSpec): boolean =>
  connectorProfile(name, engine)?.ports === "device";

const kvPort: Check = ({ spec, template, inferred }) => {
  const port = inferred.transfer?.port;
  const { device } = spec;
  if (port === undefined || !perDevice(spec) || device?.vendor !== "ascend") return [];
  const reserved = reservedPorts(countRule(device, template.spec)?.perNode);
  const last = port + handshakePorts(spec) - 1;
  if (last > LAST_PORT) return [denied("KvContradict", `kv_port ${port}: ports up to ${last} are needed`)];
  if (last < reserved.first || port > reserved.last) return [];
  return [
    warned(
      "KvPortReserved",
      `kv_port ${port} to ${last} meets ${reserved.first} to ${reserved.last}, bound at random by the transfer library`,
    ),
  ];
};

/** Mooncake's connectors of vLLM-Ascend end with an assertion. */
const decodePipeline: Check = ({ spec }) =>
  spec.role === "decode" && perDevice(spec) && spec.parallelism.pp > 1
    ? [denied("KvContradict", `${spec.connector} wants pipeline size 1 on decode, not ${spec.parallelism.pp}`)]
    : [];

/** An address that no other pod can reach, given for the one that prefill engines tell decoders. */
const localAddress: Check = ({ spec, inferred }) => {
  const name = connectorProfile(spec.connector, spec.engine)?.hostEnv;
  const value = inferred.container.env?.find((variable) => variable.name === name)?.value ?? "";
  if (!/^(localhost|127\.)/.test(value)) return [];
  return [warned("KvContradict", `${name ?? ""} is ${value}: no decoder reaches that; leave it out`)];
};

/** Pods are as their workload, which was told; a pod that joins Ray is as its leader. */
const isHalf = ({ role, kind, joins }: WorkloadSpec): boolean => role !== "both" && kind !== "Pod" && joins !== true;

/** A decode loses nothing without connector; a script that loads none was told; unless managed, none is chosen yet. */
const mayLackOne = ({ role, connector: name, offered, mode }: WorkloadSpec): boolean =>
  name === "none" && (role === "decode" || offered !== undefined || mode !== "manage");

/** What becomes of the halves of a pair whose connector hands nothing over. */
const handedOver: Check = ({ spec, inferred: { transfer } }) => {
  const { connector: name, engine } = spec;
  if (!isHalf(spec) || isHandedOver(name, engine)) return [];
  const keeper = transfer?.connector === "none" ? transfer.className : undefined;
  if (keeper === undefined && mayLackOne(spec)) return [];
  const what = keeper === undefined ? `connector ${name}: the router hands no KV over with it` : `${keeper} ${KEEPS}`;
  return [warned("KvNotHandedOver", `${what}, so that ${consequence(spec)}`)];
};

const KEEPS = "keeps KV for the engine itself and hands none over from prefill to decode";

const consequence = ({ role, connector: name, engine }: WorkloadSpec): string => {
  if (role === "prefill") return "no prompts are sent to this prefill";
  return prefillsAlone(name, engine) ? "prompts are prefilled on this decode itself" : "nothing is sent to this decode";
};

export const TRANSFER_CHECKS: readonly Check[] = [
  connector,
  kvRole,
  engineId,
  kvPort,
  decodePipeline,
  localAddress,
  handedOver,
];
