/** Checks of the engine's arguments against what is declared: engine, ports, data parallelism, caching, environment. */
import { ANNOTATION } from "../../kinds/names.ts";
import { denied, warned } from "../../kinds/verdict.ts";
import { engineProfile } from "../../profiles/engines.ts";
import { evaluated, hasFlag, passesUnevaluated } from "../../workload/arguments.ts";
import type { Check } from "./check.ts";

/** vLLM-Ascend is started by vLLM's own command, so that only SGLang can be told from the others. */
const engine: Check = ({ spec, inferred }) => {
  const { found, engine: told } = inferred.command;
  if (!found || told === undefined || (told === "sglang") === (spec.engine === "sglang")) return [];
  return [
    denied("EngineContradict", `${ANNOTATION.engine} is ${spec.engine}, but the command starts ${told}`, {
      subject: ANNOTATION.engine,
    }),
  ];
};

/** The `http` port is where requests go; a different `--port` means that nobody listens there. */
const ports: Check = ({ spec, inferred }) => {
  const { portFlag } = inferred;
  if (portFlag === undefined || portFlag === spec.port || spec.rankPorts !== undefined) return [];
  return [warned("EngineContradict", `requests go to port ${spec.port}, but --port is ${portFlag}`)];
};

/** One API server for each rank, the first at the serving port, and no more of them than ranks. */
const rankPorts: Check = ({ spec, inferred }) => {
  const { rankPorts: declared, port, parallelism } = spec;
  if (declared === undefined) return [];
  const text = `${ANNOTATION.rankPorts} is ${declared.first}+${declared.count}`;
  const deny = (but: string) => [denied("EngineContradict", `${text}, but ${but}`, { subject: ANNOTATION.rankPorts })];
  if (port !== declared.first) return deny(`${ANNOTATION.port} is ${port}`);
  if (inferred.portFlag !== undefined && inferred.portFlag !== declared.first)
    return deny(`--port is ${inferred.portFlag}`);
  const known = spec.sizesHidden !== true && parallelism.dp > 1;
  return known && declared.count > parallelism.dp ? deny(`there are ${parallelism.dp} data-parallel ranks`) : [];
};

/** Flags that say who spreads requests over the ranks; without one the arguments say nothing. */
const dataParallelMode: Check = ({ spec, inferred }) => {
  const told = inferred.dataParallelMode;
  if (told === "internal" || told === spec.dataParallelMode) return [];
  return [
    denied("EngineContradict", `${ANNOTATION.dpMode} is ${spec.dataParallelMode}, the arguments say ${told}`, {
      subject: ANNOTATION.dpMode,
    }),
  ];
};

const unevaluated: Check = ({ spec, inferred: { command, container } }) =>
  passesUnevaluated(command)
    ? [
        warned(
          "EngineArgsUnevaluated",
          `script of ${container.name} passes $TANDEM_ENGINE_ARGS without eval, and the engine gets its quotes as letters; start it by ${evaluated(spec.engine)}`,
        ),
      ]
    : [];

const prefixCaching: Check = ({ inferred }) => {
  const { noCacheFlag } = engineProfile(inferred.engine.id);
  if (!hasFlag(inferred.command.flags, noCacheFlag)) return [];
  return [warned("PrefixCachingOff", `${noCacheFlag}: the router's prefix hits will be worthless here`)];
};

/** Kubernetes resolves `$(NAME)` by what stands before; ours come after the user's. Arguments and scripts see all. */
const environmentOrder: Check = ({ inferred }) =>
  (inferred.container.env ?? []).flatMap(({ name, value }) => {
    const found = /(?<!\$)\$\((TANDEM_\w+)\)/.exec(typeof value === "string" ? value : "")?.[1];
    if (found === undefined || name.startsWith("TANDEM_")) return [];
    return [warned("EnvironmentOrder", `${name} refers to ${found}, which stands after it; use it in the arguments`)];
  });

export const ENGINE_CHECKS: readonly Check[] = [
  engine,
  ports,
  rankPorts,
  dataParallelMode,
  unevaluated,
  prefixCaching,
  environmentOrder,
];
