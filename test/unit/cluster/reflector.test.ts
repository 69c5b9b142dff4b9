import t, { type Test } from "tap";
import { startWatching, type Watching } from "../../../src/cluster/sources.ts";
import type { WatchedKind } from "../../../src/cluster/reflector.ts";
import type { Transport } from "../../../src/cluster/transport.ts";
import { slimObject } from "../../../src/cluster/slim.ts";
import type { JsonObject, KubeObject } from "../../../src/kinds/kube.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { startApiServer, type FakeApiServer } from "../../support/apiserver.ts";

const CONFIG_MAPS: WatchedKind<KubeObject> = {
  kind: "ConfigMap",
  resource: { apiVersion: "v1", plural: "configmaps" },
  slim: slimObject,
};

const configMap = (name: string, value = ""): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "a" },
  data: { value },
});

interface Scene {
  readonly server: FakeApiServer;
  readonly time: VirtualTime;
  readonly watching: Watching<KubeObject>;
  readonly restarts: string[];
}

/** Waits for something that a socket brings; the harness' own time limit ends a test that waits in vain. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

async function scene(
  t: Test,
  watched: WatchedKind<KubeObject> = CONFIG_MAPS,
  prepare: (server: FakeApiServer) => void = () => undefined,
): Promise<Scene> {
  const server = await startApiServer();
  prepare(server);
  const time = new VirtualTime(0);
  const restarts: string[] = [];
  const watching = startWatching({
    transport: server.transport(),
    watched,
    clock: time,
    timers: time,
    random: { next: () => 0.5, id: () => "" },
    log: { ...SILENT_LOG, warn: (_, fields) => restarts.push(String(fields?.["why"])) },
    metrics: NO_METRICS,
  });
  t.teardown(async () => {
    await watching.stop();
    await server.stop();
  });
  return { server, time, watching, restarts };
}

const valueOf = (object: KubeObject | undefined): unknown => (object?.["data"] as JsonObject | undefined)?.["value"];

const names = ({ watching }: Scene): string[] =>
  watching.source
    .snapshot()
    .items.map((item) => item.metadata.name ?? "")
    .sort();

const lists = ({ server }: Scene): number => server.requests.filter(({ query }) => query["watch"] === undefined).length;
const watches = ({ server }: Scene): number => server.requests.length - lists({ server } as Scene);

t.test("lists in pages, then watches from the list's version with bookmarks", async (t) => {
  const s = await scene(t, CONFIG_MAPS, (server) => {
    for (let i = 0; i < 1203; i++) server.put(configMap(`c${i}`));
  });
  t.equal(s.watching.source.synced(), false);
  await until(() => s.server.watching("configmaps") === 1);
  t.equal(s.watching.source.synced(), true);
  t.equal(s.watching.source.installed(), true);
  t.equal(s.watching.source.snapshot().items.length, 1203);
  t.same(
    s.server.requests.map(({ query }) => query["limit"]),
    ["500", "500", "500", undefined],
  );
  const query = s.server.requests.at(-1)?.query ?? {};
  t.match(query, { watch: "true", allowWatchBookmarks: "true", resourceVersion: "1303", timeoutSeconds: "25" });
  t.equal(s.watching.source.snapshot().items[0]?.kind, "ConfigMap", "items of a list are given their kind");
});

t.test("the next page is asked for before the last one is decoded, and each page once", async (t) => {
  const server = await startApiServer();
  for (let i = 0; i < 1203; i++) server.put(configMap(`c${i}`));
  const steps: string[] = [];
  const inner = server.transport();
  const call: Transport["call"] = async (each) => {
    const token = each.query?.["continue"] ?? "first";
    steps.push(`asked ${token}`);
    const answer = await inner.call(each);
    steps.push(`decoded ${token}`);
    return answer;
  };
  const time = new VirtualTime(0);
  const random = { next: () => 0.5, id: () => "" };
  const ports = { clock: time, timers: time, random, log: SILENT_LOG, metrics: NO_METRICS };
  const watching = startWatching({ ...ports, transport: { ...inner, call }, watched: CONFIG_MAPS });
  t.teardown(async () => {
    await watching.stop();
    await server.stop();
  });
  await until(() => server.watching("configmaps") === 1);
  t.equal(new Set(watching.source.snapshot().items.map(({ metadata }) => metadata.name)).size, 1203);
  const tokens = steps.filter((step) => step.startsWith("asked")).map((step) => step.slice("asked ".length));
  t.same(
    steps,
    tokens.flatMap((token, index) => [...(index === 0 ? [`asked ${token}`] : []), ...after(tokens, index)]),
  );
  t.equal(tokens.length, 3);
});

/** What happens from the answer of a page on: the next one is asked for, then this one is decoded. */
const after = (tokens: readonly string[], index: number): string[] => [
  ...tokens.slice(index + 1, index + 2).map((next) => `asked ${next}`),
  `decoded ${tokens[index] ?? ""}`,
];

t.test("the store follows what happens, with a new version for each turn at most", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  let told = 0;
  s.watching.source.onChange(() => (told += 1));
  const empty = s.watching.source.snapshot();
  for (let i = 0; i < 50; i++) s.server.put(configMap(`c${i}`));
  s.server.put(configMap("c7", "new"));
  s.server.drop(configMap("c8"));
  await until(() => names(s).length === 49 && !names(s).includes("c8"));
  await until(() => told > 0);
  t.equal(valueOf(s.watching.source.snapshot().items.find((item) => item.metadata.name === "c7")), "new");
  t.ok(s.watching.source.snapshot().version > empty.version);
  t.equal(empty.items.length, 0, "a snapshot never changes");
  t.equal(s.watching.source.snapshot(), s.watching.source.snapshot());
  t.ok(told < 52, `${told} calls for 52 changes`);
});

t.test("an orderly end, a broken connection: goes on from the last version without a list", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  s.server.put(configMap("one"));
  await until(() => names(s).length === 1);
  s.server.cut("end");
  await until(() => s.server.watching("configmaps") === 1 && watches(s) === 2);
  s.server.cut("reset");
  s.server.put(configMap("two"));
  await until(() => s.restarts.length === 1);
  s.time.advance(500);
  await until(() => names(s).length === 2);
  t.equal(lists(s), 1);
  t.equal(s.server.requests.at(-1)?.query["resourceVersion"], "101");
});

t.test("bookmarks move the version on", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  s.server.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "elsewhere", namespace: "a" } });
  s.server.bookmark();
  s.time.advance(2000);
  s.server.cut("end");
  await until(() => watches(s) === 2);
  t.equal(s.server.requests.at(-1)?.query["resourceVersion"], "101");
});

t.test("a watch that ends at once and empty waits before it is begun again", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  s.server.cut("end");
  await until(() => s.restarts.length === 1);
  t.equal(watches(s), 1);
  s.time.advance(250);
  await until(() => watches(s) === 2);
  t.match(s.restarts[0], /ended at once/);
});

t.test("410 as an event: lists again at once, and what went meanwhile is gone", async (t) => {
  const s = await scene(t, CONFIG_MAPS, (server) => server.put(configMap("old")));
  await until(() => s.server.watching("configmaps") === 1);
  s.server.put(configMap("x"));
  await until(() => names(s).length === 2);
  const kept = s.watching.source.snapshot().items.find((item) => item.metadata.name === "x");
  s.server.cut("end");
  s.server.drop(configMap("old"));
  s.server.expire();
  await until(() => lists(s) === 2 && s.server.watching("configmaps") === 1);
  t.same(names(s), ["x"]);
  t.equal(s.watching.source.snapshot().items[0], kept, "what did not change is the same object");
  t.same(s.restarts, [], "an expired version is nothing to warn of");
});

t.test("410 as an answer, and an expired page token: lists anew", async (t) => {
  let answered = 0;
  const s = await scene(t, CONFIG_MAPS, (server) => {
    for (let i = 0; i < 600; i++) server.put(configMap(`c${i}`));
    server.intercept = ({ query }) => {
      const gone = { status: 410, body: { kind: "Status", code: 410, reason: "Expired", message: "gone" } };
      return query["continue"] !== undefined && (answered += 1) === 1 ? gone : undefined;
    };
  });
  await until(() => s.watching.source.synced());
  t.equal(names(s).length, 600);
  t.equal(lists(s), 4);
});

t.test("45 s of silence end the watch; bookmarks are not silence", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  s.time.advance(40_000);
  t.equal(s.watching.source.ageMs(), 40_000);
  s.server.bookmark();
  await until(() => s.watching.source.ageMs() === 0);
  s.time.advance(44_000);
  t.equal(s.server.watching("configmaps"), 1);
  s.time.advance(1001);
  await until(() => watches(s) === 2);
  t.same(s.restarts, []);
  t.equal(lists(s), 1);
});

/** The watch is open, and its head has been read: what is said on it comes after. */
async function openWatch(s: Scene): Promise<void> {
  await until(() => s.server.watching("configmaps") === 1);
  s.time.advance(10);
  s.server.bookmark();
  await until(() => s.watching.source.ageMs() === 0);
}

t.test("a kind of which nothing changes is watched anew, and is news again each time", async (t) => {
  const s = await scene(t);
  await openWatch(s);
  for (let turn = 1; turn <= 6; turn += 1) {
    await until(() => watches(s) === turn && s.watching.source.ageMs() === 0);
    s.time.advance(44_999);
    t.equal(s.watching.source.ageMs(), 44_999);
    s.time.advance(1);
  }
  t.equal(lists(s), 1);
  t.same(s.restarts, []);
});

t.test("a server that does not even begin an answer is a failure, and no news", async (t) => {
  const s = await scene(t);
  await openWatch(s);
  s.server.intercept = () => "hang";
  s.time.advance(45_000);
  await until(() => watches(s) === 2);
  s.time.advance(45_000);
  await until(() => s.restarts.length === 1);
  t.equal(s.watching.source.ageMs(), 90_000);
});

t.test("a line that is not an event ends the watch, the third in a row lists again", async (t) => {
  const s = await scene(t);
  for (const [turn, line] of [
    "{oops\n",
    '{"type":"SURPRISE","object":{}}\n',
    '{"type":"ADDED","object":{"kind":"X"}}\n',
  ].entries()) {
    await until(() => watches(s) === turn + 1 && s.server.watching("configmaps") === 1);
    s.server.say("configmaps", line);
    await until(() => s.restarts.length === turn + 1);
    s.time.advance(30_000);
  }
  await until(() => lists(s) === 2);
  t.match(s.restarts, [/not JSON/, /not an event/, /not a Kubernetes object/]);
});

t.test("a line cut by chunks, and a character cut by them, arrive whole", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  const object = { ...configMap("grün", "日本"), metadata: { name: "gruen", namespace: "a", resourceVersion: "900" } };
  const line = Buffer.from(`${JSON.stringify({ type: "ADDED", object })}\n`);
  const cut = line.indexOf(Buffer.from("日")) + 1;
  s.server.say("configmaps", line.subarray(0, cut) as never);
  await new Promise((resolve) => setTimeout(resolve, 20));
  s.server.say("configmaps", line.subarray(cut) as never);
  await until(() => names(s).length === 1);
  t.equal(valueOf(s.watching.source.snapshot().items[0]), "日本");
});

t.test("errors of the server back off and are retried; a 5xx on the watch needs no list", async (t) => {
  const s = await scene(t);
  await until(() => s.server.watching("configmaps") === 1);
  s.server.intercept = () => ({ status: 503, body: "overloaded" });
  s.server.put(configMap("x"));
  await until(() => names(s).length === 1);
  s.server.cut("end");
  await until(() => s.restarts.length === 1);
  s.server.intercept = () => undefined;
  s.time.advance(30_000);
  await until(() => s.server.watching("configmaps") === 1);
  t.equal(lists(s), 1);
  t.match(s.restarts[0], /503 overloaded/);
});

t.test("an optional API that is missing is known to be absent, and found when it is installed", async (t) => {
  const podGroups: WatchedKind<KubeObject> = {
    kind: "PodGroup",
    resource: { apiVersion: "scheduling.volcano.sh/v1beta1", plural: "podgroups" },
    optional: true,
    slim: slimObject,
  };
  const s = await scene(t, podGroups, (server) => void server.missing.add("podgroups"));
  await until(() => s.watching.source.synced());
  t.equal(s.watching.source.installed(), false);
  t.same(names(s), []);
  let told = 0;
  s.watching.source.onChange(() => (told += 1));
  s.server.missing.clear();
  s.server.put({ apiVersion: "scheduling.volcano.sh/v1beta1", kind: "PodGroup", metadata: { name: "g" } });
  s.time.advance(30_000);
  await until(() => names(s).length === 1);
  await until(() => told > 0);
  t.equal(s.watching.source.installed(), true);
});

t.test("a server that is not there: not synced, no throw, ends when told", async (t) => {
  const s = await scene(t, CONFIG_MAPS, (server) => (server.intercept = () => "reset"));
  await until(() => s.restarts.length === 1);
  t.equal(s.watching.source.synced(), false);
  t.equal(s.watching.source.ageMs(), Number.POSITIVE_INFINITY);
  await s.watching.stop();
  t.pass("stopped while it waited");
});
