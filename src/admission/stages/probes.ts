/**
 * Stage probes: probes that fit an engine which loads its model for half an hour, and an end that loses no answers.
 *
 * Every kind of probe is added only where the container has none of that kind. On the Pod alone: a probe that somebody
 * forgot to take along must not outlive Tandem in a template.
 */
import { annotationOf, type Container } from "../../kinds/kube.ts";
import { changed, warned, type Verdict } from "../../kinds/verdict.ts";
import { engineProfile } from "../../profiles/engines.ts";
import { flagValues, hasFlag, readCommand, type EngineCommand, type Flags } from "../../workload/arguments.ts";
import { set, type Wish } from "../change.ts";
import { killsLoading } from "../checks/probes.ts";
import { kubeletsSleep } from "./kubelets.ts";
import { at, containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";

/** All three engines answer it without a token; SGLang's generates one, for which it allows itself 20 s. */
const PATH = "/health";
const STARTUP_PERIOD = 10;
const READINESS_PERIOD = 10;
/** A busy event loop answers late; an engine that is taken out of routing for that only makes the others busier. */
const READINESS_FAILURES = 3;
const LIVENESS_PERIOD = 30;
/** Above SGLang's own 20 s. */
const TIMEOUT = 25;

/** Why the engine container of this Pod cannot be probed over HTTP; undefined where it can. */
function unprobed(context: StageContext, { flags }: EngineCommand): string | undefined {
  const { spec, settings } = context;
  if (settings.probes.startupSeconds === 0) return "probes are off in the configuration";
  if (spec.headless === true) return "a headless engine has no API server";
  // The template is the same for all nodes, and only the first has an API server.
  if (spec.nodesPerInstance > 1 && spec.dataParallelMode === "internal")
    return "of its pods only node rank 0 has an API server to ask";
  if (spec.portAssumed === true) return "a script hides the port; give tandem.sh/port";
  return unreachable(context, flags);
}

const isMeshed = ({ template }: StageContext): boolean => annotationOf(template, SIDECAR) !== undefined;

/** Why nobody can ask the API server; undefined where somebody can. */
function unreachable(context: StageContext, flags: Flags): string | undefined {
  const host = flags.values.get("--host")?.[0] ?? "";
  if (isMeshed(context) && !/^(|0\.0\.0\.0|\[?::\]?|localhost|127\.0\.0\.1)$/.test(host))
    return `Istio's sidecar is there already, and the engine listens on ${host} alone`;
  if (hasFlag(flags, "--uds")) return "the engine listens on a socket of its own";
  // 2 is Python's CERT_REQUIRED.
  if (flags.values.get("--ssl-cert-reqs")?.[0] === "2") return "the engine wants a certificate of its client";
  return !isMeshed(context) && /^(127\.|localhost$|\[?::1\]?$)/.test(host)
    ? `the engine listens on ${host} alone`
    : undefined;
}

/** The engine's own port: behind a proxy it is another than the one that requests go to. */
function portOf({ spec }: StageContext, { flags }: EngineCommand): number {
  const own = Number(flagValues(flags, engineProfile(spec.engine).names.port)?.[0]);
  return spec.rankPorts?.first ?? (own > 0 && own < 65536 ? own : spec.port);
}

/** Istio's mark on a pod that has its sidecar. */
const SIDECAR = "sidecar.istio.io/status";

/**
 * Istio's webhook turns probes over HTTP to its sidecar, which alone may speak plainly to the engine where mTLS is strict.
 * Where it has been here before us it does not come back: then the container asks itself, past the sidecar.
 */
const ASK = `import http.client as h, ssl, sys
s, p = sys.argv[1:]
c = h.HTTPSConnection("localhost", p, context=ssl._create_unverified_context()) if s == "HTTPS" else h.HTTPConnection("localhost", p)
c.request("GET", "${PATH}")
sys.exit(c.getresponse().status != 200)`;

function check(context: StageContext, command: EngineCommand, timing: object): object {
  const port = portOf(context, command);
  // What the API server fills in, so that a later look at the Pod finds it as it was asked for.
  const scheme = hasFlag(command.flags, "--ssl-certfile") ? "HTTPS" : "HTTP";
  const asked = isMeshed(context)
    ? { exec: { command: ["python3", "-c", ASK, scheme, String(port)] } }
    : { httpGet: { path: PATH, port, scheme } };
  return { ...asked, timeoutSeconds: TIMEOUT, ...timing };
}

function probeWishes(context: StageContext, command: EngineCommand): Wish[] {
  const { startupSeconds, livenessSeconds } = context.settings.probes;
  const wish = (kind: string, periodSeconds: number, failureThreshold: number): Wish =>
    set(inContainer(context, kind), check(context, command, { periodSeconds, failureThreshold }));
  return [
    wish("startupProbe", STARTUP_PERIOD, Math.ceil(startupSeconds / STARTUP_PERIOD)),
    wish("readinessProbe", READINESS_PERIOD, READINESS_FAILURES),
    ...(livenessSeconds === 0
      ? []
      : [wish("livenessProbe", LIVENESS_PERIOD, Math.ceil(livenessSeconds / LIVENESS_PERIOD))]),
  ];
}

/** What the API server fills in: a value equal to it counts as unset. */
const DEFAULT_GRACE = 30;
/** Left of the grace period for the engine itself after the drain. */
const AFTER_DRAIN = 10;

/** The termination grace the Pod will have: the user's own, else the configured one. */
function graceOf({ template, settings }: StageContext): number {
  const given = template.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE;
  const wanted = settings.drain.graceSeconds;
  return given === DEFAULT_GRACE && wanted > DEFAULT_GRACE ? wanted : given;
}

/**
 * The router sends nothing to a Pod that is being deleted, and vLLM drops at SIGTERM what it is working on: in between
 * the kubelet waits.
 */
function drainWishes(context: StageContext): Wish[] {
  const grace = graceOf(context);
  const seconds = Math.min(context.settings.drain.seconds, grace - AFTER_DRAIN);
  return [
    ...(grace === (context.template.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE)
      ? []
      : [set(at(context, "spec", "terminationGracePeriodSeconds"), grace, DEFAULT_GRACE)]),
    ...(seconds <= 0 ? [] : [set(inContainer(context, "lifecycle", "preStop"), pause(context, seconds))]),
  ];
}

/** By the kubelet itself, so that the image needs no `sleep`; without one in the image an old kubelet waits for nothing. */
const pause = ({ snapshot }: StageContext, seconds: number): object =>
  kubeletsSleep(snapshot.nodes) ? { sleep: { seconds } } : { exec: { command: ["sleep", String(seconds)] } };

/** The user's own liveness probe with nothing before it that holds it back. */
const kills = (container: Container, reason: string): Verdict | undefined => {
  const silent = killsLoading(container);
  return silent === undefined
    ? undefined
    : warned("ProbeKills", `livenessProbe kills after ${silent} s of loading, and no startupProbe is added: ${reason}`);
};

export function probes(context: StageContext): StageResult {
  const command = readCommand(containerOf(context));
  const reason = unprobed(context, command);
  const drain = drainWishes(context);
  const changes = [...(reason === undefined ? probeWishes(context, command) : []), ...drain];
  const warning = reason === undefined ? undefined : kills(containerOf(context), reason);
  if (warning !== undefined) return { changes, verdict: warning };
  if (changes.length === 0) return nothing(reason ?? "");
  return { changes, verdict: changed("ProbesInjected", message(context, command, reason)) };
}

const message = (context: StageContext, command: EngineCommand, reason: string | undefined): string =>
  [
    reason === undefined ? `${PATH} on port ${portOf(context, command)}` : `no probes are added: ${reason}`,
    `grace ${graceOf(context)} s`,
  ].join("; ");
