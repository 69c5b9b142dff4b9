/**
 * Ranks of an instance over several pods, at a Pod's creation: the gate behind which it waits for its place, the
 * environment and arguments that tell the engine of it, and a step that waits for the leader's name.
 *
 * All pods of a workload are made from one template and nobody knows their ranks yet, so that everything refers to labels
 * and annotations: the controller writes them while the gate holds, and fields are read when a container starts. Pods of
 * a LeaderWorkerSet have their numbers already; they get no gate. It belongs to the stage `engine`: whoever skips that
 * gives the ranks himself.
 */
import { labelOf, type Container, type EnvVar, type Pod } from "../../kinds/kube.ts";
import { ENGINE_ENV, ENGINE_PORTS, GATE, KTHENA_ENV, LABEL, LWS, STATUS } from "../../kinds/names.ts";
import { changed, warned, type Verdict } from "../../kinds/verdict.ts";
import { mentions, readCommand, type EngineCommand } from "../../workload/arguments.ts";
import { groupPlace, placeAnnotations, type Place } from "../../workload/instance.ts";
import { isEntry } from "../../workload/serving.ts";
import { append, item, set, type Wish } from "../change.ts";
import { at, containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";
import { envWishes } from "./engine.ts";
import { rankArguments, type Given } from "./rank-arguments.ts";

const label = (name: string, key: string): EnvVar => field(name, `metadata.labels['${key}']`);
const annotation = (name: string, key: string): EnvVar => field(name, `metadata.annotations['${key}']`);
const field = (name: string, fieldPath: string): EnvVar => ({
  name,
  valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } },
});
const literal = (name: string, value: string | number): EnvVar => ({ name, value: String(value) });
const same = (name: string, as: string): EnvVar => literal(name, `$(${as})`);

export function ranks(context: StageContext): StageResult {
  const { spec, object } = context;
  if (spec.nodesPerInstance === 1) return nothing("one pod is one instance");
  const group = labelOf(object, LWS.name) !== undefined;
  const place = group ? groupPlace(object as Pod) : undefined;
  const command = readCommand(containerOf(context));
  const given = command.opaque ? scripted(context, command) : rankArguments(context, command);
  const env = environment(context, group);
  const changes: Wish[] = [
    ...(group ? placed(context, place) : [item(at(context, "spec", "schedulingGates"), { name: GATE.rank })]),
    ...envWishes(context, env),
    item(at(context, "spec", "initContainers"), waitStep(context, env)),
    ...(context.template.spec.hostNetwork === true ? [hostNames(context)] : []),
    ...(given.words.length === 0 ? [] : [append(inContainer(context, "args"), given.words)]),
  ];
  return { changes, verdict: given.verdict ?? changed("RanksInjected", message(context, group, given.words)) };
}

function message({ spec }: StageContext, group: boolean, words: readonly string[]): string {
  const adds = words.length === 0 ? "" : `; adds ${words.join(" ")}`;
  return group
    ? `one of ${spec.nodesPerInstance} pods of a group; LeaderWorkerSet numbers it${adds}`
    : `one of ${spec.nodesPerInstance} pods of an instance; waits behind ${GATE.rank} for its rank${adds}`;
}

/** The cluster's names are unknown to a pod on the host's network unless it asks for them. */
const hostNames = (context: StageContext): Wish =>
  set(at(context, "spec", "dnsPolicy"), "ClusterFirstWithHostNet", "ClusterFirst");

/** What the controller writes for others, for a pod that brings its numbers along. */
function placed(context: StageContext, place: Place | undefined): Wish[] {
  if (place === undefined) return [];
  const { instance, rank } = place;
  const labels = {
    [LABEL.instance]: instance,
    [LABEL.nodeRank]: String(rank),
    ...(isEntry(context.spec, rank) ? { [LABEL.entry]: "true" } : {}),
  };
  return [
    ...wishes(context, "labels", labels),
    ...wishes(context, "annotations", placeAnnotations(context.spec, rank)),
  ];
}

const wishes = (context: StageContext, where: string, map: Readonly<Record<string, string>>): Wish[] =>
  Object.entries(map).map(([key, value]) => set(at(context, "metadata", where, key), value));

/** LeaderWorkerSet's webhook puts its own variables before all others, whichever webhook runs first. */
function environment({ spec, template }: StageContext, group: boolean): EnvVar[] {
  const onHost = template.spec.hostNetwork === true && !group;
  const port = (name: string): EnvVar => annotation(name, STATUS.portBase);
  return [
    group ? same(ENGINE_ENV.dpAddress, LWS.leaderEnv) : annotation(ENGINE_ENV.dpAddress, STATUS.leader),
    label(ENGINE_ENV.nodeRank, LABEL.nodeRank),
    label(ENGINE_ENV.instance, LABEL.instance),
    literal(ENGINE_ENV.nodes, spec.nodesPerInstance),
    annotation(ENGINE_ENV.dpRankStart, STATUS.rankStart),
    annotation(ENGINE_ENV.nodeArgument, STATUS.nodeArgument),
    ...(spec.engine === "sglang" ? [] : addressEnv),
    onHost ? port(ENGINE_ENV.dpRpcPort) : literal(ENGINE_ENV.dpRpcPort, ENGINE_PORTS.dpRpc),
    ...(onHost ? [port(ENGINE_ENV.portBase)] : []),
    ...(group ? [] : groupNames(spec.nodesPerInstance)),
    same(KTHENA_ENV.leader, ENGINE_ENV.dpAddress),
    literal(KTHENA_ENV.size, spec.nodesPerInstance),
    same(KTHENA_ENV.index, ENGINE_ENV.nodeRank),
  ];
}

const addressEnv: readonly EnvVar[] = [
  annotation(ENGINE_ENV.addressArgument, STATUS.addressArgument),
  field(ENGINE_ENV.podIp, "status.podIP"),
];

const groupNames = (nodes: number): EnvVar[] => [
  same(LWS.leaderEnv, ENGINE_ENV.dpAddress),
  literal(LWS.sizeEnv, nodes),
  same(LWS.indexEnv, ENGINE_ENV.nodeRank),
];

const NAMES = [ENGINE_ENV.dpAddress, ENGINE_ENV.dpRankStart, ENGINE_ENV.nodeRank, LWS.leaderEnv, KTHENA_ENV.leader];

/** A script that can be read and looks at one of the variables. */
const passes = ({ script }: EngineCommand): boolean => NAMES.some((name) => script.includes(name));

/** A script gets all of it as environment, and as words where it says that it passes those. */
function scripted(context: StageContext, command: EngineCommand): Given {
  const passesAll = mentions(containerOf(context), ENGINE_ENV.engineArgs);
  const told = passes(command) || passesAll || rankArguments(context, command).words.length === 0;
  return told ? { words: [] } : { words: [], verdict: mustPass(context.spec.nodesPerInstance) };
}

const mustPass = (nodes: number): Verdict =>
  warned(
    "EngineOpaque",
    `a script hides the arguments; to make one engine of ${nodes} pods it must pass ` +
      `${ENGINE_ENV.dpAddress}, ${ENGINE_ENV.dpRankStart} or ${ENGINE_ENV.nodeRank} on`,
  );

/** Seconds. A headless Service is in the cluster's DNS within seconds; a cached refusal lasts half a minute. */
const NAME_DEADLINE = 300;

/**
 * `sh` is what an image with an entrypoint script has; `getent` comes with its C library, Python with every engine. An
 * empty rank means that nobody will give one: without the gate's controller the pod must fail at once, not hang in an
 * engine that waits for peers.
 */
const WAIT = `set -u
if [ -z "$${ENGINE_ENV.nodeRank}" ] || [ -z "$${ENGINE_ENV.dpAddress}" ]; then
  echo "tandem: this pod has no node rank or no leader; it was started without its instance" >&2
  exit 1
fi
end=$(($(date +%s) + ${NAME_DEADLINE}))
until getent ahosts "$${ENGINE_ENV.dpAddress}" >/dev/null 2>&1 ||
  python3 -c 'import socket, sys; socket.getaddrinfo(sys.argv[1], None)' "$${ENGINE_ENV.dpAddress}" 2>/dev/null; do
  if [ "$(date +%s)" -ge "$end" ]; then
    echo "tandem: $${ENGINE_ENV.dpAddress} did not resolve within ${NAME_DEADLINE} s" >&2
    exit 1
  fi
  sleep 1
done
`;

export const WAIT_CONTAINER = "tandem-wait";

/** In the engine's own image, which the node needs anyway, with the engine's rights: the namespace allows those. */
function waitStep(context: StageContext, env: readonly EnvVar[]): Container {
  const { image, imagePullPolicy, securityContext } = containerOf(context);
  const needed: readonly string[] = [ENGINE_ENV.dpAddress, ENGINE_ENV.nodeRank];
  return {
    name: WAIT_CONTAINER,
    ...(image === undefined ? {} : { image }),
    ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    command: ["sh", "-c", WAIT],
    env: env.filter(({ name }) => needed.includes(name)),
    resources: { limits: { cpu: "100m", memory: "64Mi" }, requests: { cpu: "100m", memory: "64Mi" } },
    ...(securityContext === undefined ? {} : { securityContext }),
  };
}
