/**
 * The whole path on real parts: a labelled pair of Deployments is admitted, placed and served, then released.
 * Real kube-apiserver, controller-manager, scheduler (with Tandem's extender) and Envoy; kwok's nodes; simulated engines
 * on the pods' own addresses.
 */
import t from "tap";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseObjects } from "../../src/cli/input.ts";
import { ENGINE_ENV, HEADER, LABEL, OWNERSHIP, STATUS, VOLCANO } from "../../src/kinds/names.ts";
import {
  annotationOf,
  labelOf,
  type JsonObject,
  type KubeObject,
  type Pod,
  type Workload,
} from "../../src/kinds/kube.ts";
import { startEngine, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { systemClock as clock, systemRandom as random, systemTimers as timers } from "../../src/telemetry/process.ts";
import { domainsOf } from "../../src/workload/beside.ts";
import { endpointsOf } from "../../src/workload/endpoint.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { followPods, type EngineFleet } from "./cluster/engines.ts";
import { startEnvoy, type Envoy } from "./cluster/envoy.ts";
import { startLaps } from "./cluster/laps.ts";
import { leaves } from "./cluster/nodes.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram, startTandem, tandem, type Tandem } from "./cluster/tandem.ts";

t.setTimeout(420_000);
const MODEL = "qwen3-32b";
const EXAMPLE = join(REPOSITORY, "manifests", "examples", "qwen3-32b-nvidia.yaml");
const ASCEND = ["qwen3-32b-ascend.yaml", "qwen3-32b-ascend-cce.yaml"].map((file) =>
  join(REPOSITORY, "manifests", "examples", file),
);
const DEPLOYMENTS = ["qwen3-32b-prefill", "qwen3-32b-decode"];

let cluster: Cluster;
let service: Tandem;
let fleet: EngineFleet<RunningEngine>;
let envoy: Envoy;
const lap = startLaps(t);

const objectsOf = (file: string): Workload[] => parseObjects(readFileSync(file, "utf8"), file) as Workload[];
const deployment = async (name: string, namespace = "default"): Promise<Workload> =>
  (await cluster.api.get(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)) as unknown as Workload;
const podsOf = (role: string): Promise<Pod[]> => cluster.pods("default", `${LABEL.role}=${role}`);
const placed = (pods: Pod[], count: number): Pod[] | undefined =>
  pods.length === count && pods.every(({ spec }) => spec.nodeName !== undefined) ? pods : undefined;

const LEAVES = leaves();
const leafOf = (pod: Pod): string =>
  [...LEAVES].find(([, nodes]) => nodes.includes(pod.spec.nodeName ?? ""))?.[0] ?? "none";
const leavesOf = (pods: readonly Pod[]): Set<string> => new Set(pods.map(leafOf));

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes();
  lap("cluster");
  service = await startTandem(cluster, ["router.explainHeaders=true", "router.scrapeIntervalMs=200"]);
  await cluster.startScheduler({ extender: { url: `${service.webhooks}/extender`, ca: service.authority } });
  lap("Tandem and scheduler");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await envoy.stop();
  await fleet.stop();
  await service.stop();
  await cluster.stop();
});

t.test("without Tandem the scheduler spreads the same pods over the leaves", async (t) => {
  const plain = objectsOf(EXAMPLE).map((object) => withoutLabels(object));
  await cluster.must(["create", "namespace", "plain"]);
  await cluster.must(
    ["apply", "-n", "plain", "-f", "-"],
    plain.map((object) => JSON.stringify(object)).join("\n---\n"),
  );
  const pods = await eventually("plain pods on nodes", async () => placed(await cluster.pods("plain"), 4));
  t.ok(leavesOf(pods).size > 1, [...leavesOf(pods)].join());
  await cluster.must(["delete", "namespace", "plain", "--wait=false"]);
});

/** The Deployment as it would be without our labels, asking for its devices itself. */
function withoutLabels(object: Workload): KubeObject {
  const copy = structuredClone(object);
  for (const key of Object.values(LABEL)) delete copy.metadata.labels?.[key];
  const [container] = copy.spec.template.spec.containers;
  container!.resources = { limits: { "nvidia.com/gpu": "4" } };
  return copy;
}

t.test("kubectl apply: admitted, with what each part needs", async (t) => {
  const output = await cluster.must(["apply", "-f", EXAMPLE]);
  t.match(output, /qwen3-32b-prefill created/);
  for (const name of DEPLOYMENTS) {
    const { metadata, spec } = await deployment(name);
    const role = name.endsWith("prefill") ? "prefill" : "decode";
    t.match(spec.template.metadata?.labels, { [LABEL.model]: MODEL, [LABEL.role]: role, [LABEL.cell]: "0" });
    t.match(spec.template.spec.containers[0]?.resources?.limits, { "nvidia.com/gpu": "4" });
    t.type(metadata.annotations?.[STATUS.plan], "string");
    t.notOk(
      JSON.stringify(spec.template).includes("kv-transfer-config"),
      "what belongs to a Pod is not on the workload",
    );
  }
});

t.test("prefill and decode land in one leaf", async (t) => {
  const pods = await eventually("pods on nodes", async () =>
    placed([...(await podsOf("prefill")), ...(await podsOf("decode"))], 4),
  );
  lap("pods placed");
  t.equal(leavesOf(pods).size, 1, [...leavesOf(pods)].join());
  for (const pod of pods) {
    const [container] = pod.spec.containers;
    t.ok(container?.args?.includes("--kv-transfer-config"), "the connector is configured");
    t.match(container?.env?.find(({ name }) => name === ENGINE_ENV.kvTransferConfig)?.value, /NixlConnector/);
    t.equal(labelOf(pod, LABEL.entry), labelOf(pod, LABEL.role) === "decode" ? "true" : undefined);
  }
  const told = await eventually("where they lie is written to the pods, for the router's distances", async () => {
    const now = [...(await podsOf("prefill")), ...(await podsOf("decode"))];
    return now.every((pod) => annotationOf(pod, STATUS.domains) !== undefined) ? now : undefined;
  });
  for (const pod of told) t.match(domainsOf(pod), [/root$/, leafOf(pod), pod.spec.nodeName]);
});

/** What the controller made for cells of the namespace. */
const ofCells = (kind: "podgroups" | "configmaps"): Promise<KubeObject[]> => {
  const root = kind === "configmaps" ? "/api/v1" : `/apis/${VOLCANO.podGroupApiVersion}`;
  const ours = encodeURIComponent(`${OWNERSHIP.label}=${OWNERSHIP.value}`);
  return cluster.api.list(`${root}/namespaces/default/${kind}?labelSelector=${ours}`);
};

t.test(
  "that the cell stands is recorded, owned by both Deployments; no PodGroup, for Volcano schedules nothing",
  async (t) => {
    const { metadata, data } = (await eventually(
      "the record",
      async () => (await ofCells("configmaps"))[0],
    )) as KubeObject & {
      data: { domain: string };
    };
    t.match(metadata.name, /^tandem-.*-standing$/);
    t.match(data.domain, /leaf/, "where its pods are kept");
    t.same(metadata.ownerReferences?.map(({ name }) => name).sort(), [...DEPLOYMENTS].sort());
    t.notOk(JSON.stringify(metadata.ownerReferences).includes("true"), "neither controller nor blockOwnerDeletion");
    t.same(await ofCells("podgroups"), []);
  },
);

t.test("applying the same files again rolls nothing", async (t) => {
  const before = await Promise.all(DEPLOYMENTS.map((name) => deployment(name)));
  await cluster.must(["apply", "-f", EXAMPLE]);
  await cluster.must(["apply", "-f", EXAMPLE]);
  const after = await Promise.all(DEPLOYMENTS.map((name) => deployment(name)));
  t.same(
    after.map(({ metadata }) => metadata.generation),
    before.map(({ metadata }) => metadata.generation),
  );
  t.same(
    after.map(({ spec }) => spec),
    before.map(({ spec }) => spec),
  );
  const sets = (await cluster.api.list("/apis/apps/v1/namespaces/default/replicasets")).length;
  t.equal(sets, DEPLOYMENTS.length, "no second ReplicaSet");
});

t.test("a bad value is refused in our words, with the key and what is accepted", async (t) => {
  const label = await cluster.kubectl(["label", "--overwrite", "deployment", DEPLOYMENTS[0]!, `${LABEL.role}=prefil`]);
  t.not(label.code, 0);
  t.match(label.stderr, /tandem\.sh\/role.*prefil.*prefill.*decode.*both/s);
  const annotate = await cluster.kubectl(["annotate", "deployment", DEPLOYMENTS[0]!, "tandem.sh/topology=close"]);
  t.not(annotate.code, 0);
  t.match(annotate.stderr, /tandem\.sh\/topology.*close.*required.*preferred.*off/s);
  const typo = await cluster.kubectl([
    "annotate",
    "--dry-run=server",
    "deployment",
    DEPLOYMENTS[0]!,
    "tandem.sh/topolgy=off",
  ]);
  t.equal(typo.code, 0);
  t.match(
    typo.stderr,
    /tandem\.sh\/topolgy.*tandem\.sh\/topology/s,
    "an unknown key is a warning that names the nearest",
  );
});

t.test("what tandem admit prints is what the API server takes and stores", async (t) => {
  for (const file of [EXAMPLE, ...ASCEND]) {
    const admitted = tandem(cluster, ["admit", "--pods", "-f", file]);
    const dryRun = await cluster.kubectl(["create", "--dry-run=server", "-f", "-"], renamed(admitted));
    t.equal(dryRun.code, 0, `${file}\n${dryRun.stderr}`);
    const again = tandem(cluster, ["admit", "-f", fileOf(tandem(cluster, ["admit", "-f", file]))]);
    t.equal(again, tandem(cluster, ["admit", "-f", file]), "admitting the output again changes nothing");
    const stripped = parseObjects(tandem(cluster, ["admit", "--strip", "-f", fileOf(again)]), "stripped");
    t.same(stripped, objectsOf(file), "stripping it gives back the input");
  }
});

/** Other names, so that the objects in the cluster are not in the way. */
const renamed = (text: string): string =>
  parseObjects(text, "admitted")
    .map((object) =>
      JSON.stringify({ ...object, metadata: { ...object.metadata, name: `again-${object.metadata.name ?? ""}` } }),
    )
    .join("\n---\n");

let files = 0;
function fileOf(text: string): string {
  const path = join(cluster.folder, `admitted-${(files += 1)}.yaml`);
  writeFileSync(path, text);
  return path;
}

t.test("engines listen on the pods' addresses and Envoy stands in front", async (t) => {
  fleet = followPods(cluster, { namespace: "default", selector: "app", start: engineOf });
  await eventually("four engines, all pods Ready", async () => {
    const pods = await cluster.pods("default", LABEL.model);
    return pods.length === 4 && pods.every((pod) => endpointsOf(pod)[0]?.ready === true) ? true : undefined;
  });
  const decode = (await podsOf("decode")).map(({ status }) => `${status?.podIP ?? ""}:8000`);
  envoy = await startEnvoy({ extProcAddress: service.router, decodeEndpoints: decode });
  await eventually("the router knows the model", async () => ((await chat(1)).status === 200 ? true : undefined));
  // From three answers on the router counts tokens as the engines do: units of a cost must not change within a burst.
  for (const i of [2, 3, 4]) await chat(i);
  lap("engines and Envoy");
  t.equal(fleet.engines.size, 4);
});

/** The engine of a pod: as its endpoint says, or one of its own where Tandem knows nothing of the pod. */
function engineOf(pod: Pod): Promise<RunningEngine> {
  const [endpoint] = endpointsOf(pod);
  const { models, role, events } = endpoint ?? {
    models: [pod.metadata.labels?.["app"] ?? ""],
    role: "both",
    events: undefined,
  };
  const options = {
    host: pod.status?.podIP ?? "",
    port: 8000,
    models,
    role,
    connector: "nixl",
    timeScale: 10,
  } as const;
  // At the ports that admission wrote into its arguments.
  const publishing = events === undefined ? {} : { events: { format: "vllm-map" as const, ...events } };
  return startEngine({ ...options, ...publishing }, { clock, timers, random });
}

const words = (count: number, salt: string): string => `${salt} ${"the quick brown fox jumps over ".repeat(count / 6)}`;
const bodyOf = (i: number): string =>
  JSON.stringify({ model: MODEL, max_tokens: 8, messages: [{ role: "user", content: words(600, `request ${i}`) }] });

interface Answer {
  readonly status: number;
  readonly prefill: string;
  readonly decode: string;
  /** Tokens that the router expected to be cached. */
  readonly predicted: number;
  readonly text: string;
}

async function post(
  url: string,
  body: string,
  type = "application/json",
  path = "/v1/chat/completions",
): Promise<Answer> {
  const init = { method: "POST", headers: { "content-type": type }, body, signal: AbortSignal.timeout(60_000) };
  const response = await fetch(`${url}${path}`, init);
  const header = (name: string): string => response.headers.get(name) ?? "";
  return {
    status: response.status,
    prefill: header(HEADER.prefillEndpoint),
    decode: header(HEADER.decodeEndpoint),
    predicted: Number(header(HEADER.predictedCachedTokens)),
    text: await response.text(),
  };
}
const chat = (i: number): Promise<Answer> => post(envoy.url, bodyOf(i));
const addressesOf = async (role: string): Promise<Set<string>> =>
  new Set((await podsOf(role)).map(({ status }) => `${status?.podIP ?? ""}:8000`));

t.test("200 concurrent chats through Envoy: no error, each with both legs on the right roles", async (t) => {
  const legs = (): number =>
    [...fleet.engines.values()].reduce((sum, engine) => sum + engine.facts().decodeLegsRemote, 0);
  const before = legs();
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => chat(100 + i)));
  t.same([...new Set(answers.map(({ status }) => status))], [200]);
  const [prefill, decode] = [await addressesOf("prefill"), await addressesOf("decode")];
  const remote = answers.filter((answer) => prefill.has(answer.prefill));
  const local = answers.filter((answer) => answer.prefill === answer.decode);
  t.equal(
    remote.length + local.length,
    200,
    "prefilled by a prefill engine, or, these being busy, where it is decoded",
  );
  t.ok(
    answers.every((answer) => decode.has(answer.decode)),
    "every decode leg ran on a decode engine",
  );
  t.equal(legs() - before, remote.length, "what a prefill engine made was fetched from it");
  t.equal(new Set(remote.map((answer) => answer.prefill)).size, 2, "both prefill engines worked");
  t.equal(new Set(answers.map((answer) => answer.decode)).size, 2, "both decode engines worked");
});

t.test("KV events of the engines are followed, and say exactly what is cached", async (t) => {
  await eventually("streams of four engines", async () => {
    const page = await (await fetch(service.metrics.router)).text();
    return /tandem_router_event_streams\{state="live"\} 4/.test(page) ? true : undefined;
  });
  await chat(900);
  const again = await eventually("events of its blocks", async () => {
    const answer = await chat(900);
    return answer.predicted > 0 ? answer : undefined;
  });
  const cached = (JSON.parse(again.text) as { usage: { prompt_tokens_details: { cached_tokens: number } } }).usage;
  t.equal(again.predicted, cached.prompt_tokens_details.cached_tokens);
});

t.test("malformed requests get the right answer in OpenAI's shape, and the router stays up", async (t) => {
  const good = JSON.parse(bodyOf(1)) as JsonObject;
  const json = (more: JsonObject): string => JSON.stringify({ ...good, ...more });
  const table: [string, string, string, number][] = [
    ["not JSON", "hello", "application/json", 400],
    ["no model", json({ model: undefined }), "application/json", 400],
    ["unknown model", json({ model: "nobody" }), "application/json", 404],
    ["20 MB body", json({ messages: [{ role: "user", content: "x".repeat(20_000_000) }] }), "application/json", 413],
    ["body cut off", bodyOf(1).slice(0, 200), "application/json", 400],
    ["wrong content type", bodyOf(1), "text/plain", 415],
    ["negative max_tokens", json({ max_tokens: -1 }), "application/json", 400],
  ];
  for (const [name, body, type, status] of table) {
    const answer = await post(envoy.url, body, type);
    t.equal(answer.status, status, name);
    const { error } = JSON.parse(answer.text) as { error: { message: string; type: string; code: string } };
    t.ok(
      error.message.length > 0 && error.type.endsWith("error") && error.code.length > 0,
      `${name}: ${answer.text.slice(0, 120)}`,
    );
  }
  t.equal((await chat(2)).status, 200, "serves afterwards");
});

t.test("a routing header of the client is never believed", async (t) => {
  const headers = {
    "content-type": "application/json",
    [HEADER.destination]: "127.0.0.1:1",
    [HEADER.prefiller]: "127.0.0.1:1",
  };
  const response = await fetch(`${envoy.url}/v1/chat/completions`, { method: "POST", headers, body: bodyOf(3) });
  t.equal(response.status, 200);
  t.ok((await addressesOf("decode")).has(response.headers.get(HEADER.decodeEndpoint) ?? ""));
});

t.test("BUFFERED body mode serves as well", async (t) => {
  const decode = [...(await addressesOf("decode"))];
  const buffered = await startEnvoy({ extProcAddress: service.router, decodeEndpoints: decode, bodyMode: "BUFFERED" });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => post(buffered.url, bodyOf(400 + i))));
  t.same([...new Set(answers.map(({ status }) => status))], [200]);
  const prefill = await addressesOf("prefill");
  t.ok(answers.every((answer) => prefill.has(answer.prefill) || answer.prefill === answer.decode));
  t.ok(answers.some((answer) => prefill.has(answer.prefill)));
  await buffered.stop();
});

t.test("a prefill engine that stops during the run is not seen by any client", async (t) => {
  const [victim] = await podsOf("prefill");
  const first = Array.from({ length: 100 }, (_, i) => chat(500 + i));
  await fleet.crash(victim?.metadata.name ?? "");
  const second = Array.from({ length: 100 }, (_, i) => chat(600 + i));
  const answers = await Promise.all([...first, ...second]);
  t.same([...new Set(answers.map(({ status }) => status))], [200]);
});

t.test("a pod in mode route is labelled while it runs, without a rollout", async (t) => {
  const metadata = { name: "mixed", namespace: "default", labels: { [LABEL.model]: "mixed", [LABEL.role]: "both" } };
  const template = {
    metadata: { labels: { app: "mixed" } },
    spec: { containers: [{ name: "vllm", image: "vllm/vllm-openai:v0.11.0", args: ["--model", "mixed"] }] },
  };
  const spec = { replicas: 1, selector: { matchLabels: { app: "mixed" } }, template };
  await cluster.must(
    ["apply", "-f", "-"],
    JSON.stringify({ apiVersion: "apps/v1", kind: "Deployment", metadata, spec }),
  );
  const pod = await eventually(
    "the label on the live pod",
    async () => (await cluster.pods("default", `${LABEL.model}=mixed`))[0],
  );
  t.match(pod.metadata.labels, { [LABEL.role]: "both", [LABEL.entry]: "true" });
  t.same((await deployment("mixed")).spec.template.metadata?.labels, { app: "mixed" }, "the template is the user's");
  await envoy.setEndpoints([...(await addressesOf("decode")), `${pod.status?.podIP ?? ""}:8000`]);
  const messages = [{ role: "user", content: "hi" }];
  const answer = await eventually("it serves", async () => {
    const reply = await post(envoy.url, JSON.stringify({ model: "mixed", max_tokens: 2, messages }));
    return reply.status === 200 ? reply : undefined;
  });
  t.equal(answer.decode, `${pod.status?.podIP ?? ""}:8000`);
});

t.test("release leaves the Deployments as they were applied, with Pods that run without Tandem", async (t) => {
  tandem(cluster, ["release", "-n", "default"]);
  for (const given of objectsOf(EXAMPLE)) {
    const { spec, metadata } = await deployment(given.metadata.name ?? "");
    t.notOk(metadata.annotations?.[STATUS.plan]);
    t.same(spec.template.metadata?.labels, given.spec.template.metadata?.labels, "template labels");
    t.notOk(
      spec.template.spec.containers[0]?.resources?.limits?.["nvidia.com/gpu"],
      "the injected device request is gone",
    );
    t.same(spec.template.spec.affinity, undefined);
  }
  const rolled = await eventually("rolled pods", async () => {
    const pods = (await cluster.pods("default", "app=qwen3-32b-decode")).filter(
      ({ metadata }) => metadata.deletionTimestamp === undefined,
    );
    return pods.length > 0 && pods.every((pod) => !JSON.stringify(pod).includes("tandem.sh/")) ? pods : undefined;
  });
  for (const pod of rolled) t.notOk(JSON.stringify(pod.spec).includes("TANDEM_"), "nothing of Tandem is in the Pod");
  await eventually("the record is gone", async () => ((await ofCells("configmaps")).length === 0 ? true : undefined));
});
