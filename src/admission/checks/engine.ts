/** Checks of the engine's arguments: ports, the role of KV transfer, identities and port ranges. */
import { denied, warned } from "../../kinds/verdict.ts";
import { countRule, reservedPorts } from "../../profiles/devices/product.ts";
import { roleName } from "../../profiles/transfer.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import type { Check } from "./check.ts";

/** The `http` port is where requests go; a different `--port` means that nobody listens there. */
const ports: Check = ({ spec, inferred }) => {
  const { portFlag } = inferred;
  if (portFlag === undefined || portFlag === spec.port || spec.rankPorts !== undefined) return [];
  return [warned("EngineContradict", `requests go to port ${spec.port}, but --port is ${portFlag}`)];
};

const kvRole: Check = ({ spec, inferred }) => {
  const given = inferred.transfer?.role;
  if (given === undefined || given === "both" || given === spec.role) return [];
  return [
    denied(
      "KvContradict",
      `kv_role ${roleName(given)} in the arguments, but the role is ${spec.role}; give ${roleName(spec.role)}`,
    ),
  ];
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

const kvPort: Check = ({ spec, template, inferred }) => {
  const port = inferred.transfer?.port;
  const { device } = spec;
  if (port === undefined || spec.connector !== "mooncake" || device?.vendor !== "ascend") return [];
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

export const ENGINE_CHECKS: readonly Check[] = [ports, kvRole, engineId, kvPort];
