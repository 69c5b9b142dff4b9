/** The facts of a cluster, gathered from a server over TLS: what is there, what is not, and who answers. */
import t from "tap";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { randomUUID } from "node:crypto";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import { createClientOver } from "../../src/cluster/client.ts";
import { loadConfig } from "../../src/config/load.ts";
import { gather } from "../../src/doctor/client.ts";
import type { ExtenderEntry } from "../../src/doctor/documents.ts";
import type { Facts } from "../../src/doctor/facts.ts";
import { systemClock } from "../../src/telemetry/process.ts";
import { startApiServer, type FakeApiServer } from "../support/apiserver.ts";
import { HEALTHY, NOW, SHIPPED } from "../support/doctor.ts";

const CONF = 'actions: "allocate"\ntiers:\n- plugins:\n  - name: gang\n';
let api: FakeApiServer;
let extender: Server;
let ca: string;
let answer: (respond: (status: number, body: unknown) => void) => void;

t.before(async () => {
  api = await startApiServer();
  for (const object of HEALTHY) api.put(structuredClone(object));
  api.put({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "volcano-scheduler-configmap", namespace: "volcano-system" },
    data: { "volcano-scheduler.conf": CONF },
  });
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const { certificate, key } = await issueServing(context, authority, ["127.0.0.1"]);
  ca = authority.certificate;
  extender = createServer({ cert: certificate, key }, (request, response) => {
    request.resume().on("end", () =>
      answer((status, body) => {
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
      }),
    );
  });
  await new Promise<void>((resolve) => extender.listen(0, "127.0.0.1", resolve));
});
t.teardown(async () => {
  extender.closeAllConnections();
  extender.close();
  await api.stop();
});

const facts = (entry: Partial<ExtenderEntry> = {}): Promise<Facts> => {
  const client = createClientOver(api.transport(2000), { clock: systemClock });
  return gather({
    reader: client,
    config: loadConfig(),
    now: NOW,
    post: (path, body) => client.transport.call({ method: "POST", path, body }),
    documents: {
      volcano: [],
      schedulers: [{ ...SHIPPED, extenders: [{ ...SHIPPED.extenders[0]!, caFile: "", ...entry }] }],
    },
    readCa: () => "",
  });
};

const here = (): string => `https://127.0.0.1:${(extender.address() as AddressInfo).port}/extender`;

t.test("kinds, the Secret by name, and configurations out of ConfigMaps", async (t) => {
  answer = (respond) => respond(200, { Error: "" });
  const { objects, volcano } = await facts({ urlPrefix: here(), caData: ca });
  for (const [kind, found] of Object.entries(objects)) t.ok(found.known, kind);
  t.match(volcano, { known: true, items: [{ plugins: ["gang"] }] });
  const pods = api.requests.filter(({ path }) => path === "/api/v1/pods");
  t.match(pods[0]?.query, { labelSelector: "tandem.sh/model" }, "a cluster has 50 000 pods of others");
  t.ok(api.requests.every(({ method, path }) => method === "GET" || path.endsWith("/proxy/extender/filter")));
});

t.test("an API that is not installed, and one that may not be read", async (t) => {
  api.missing.add("hypernodes").add("queues");
  api.intercept = ({ path }) =>
    path === "/api/v1/nodes" ? { status: 403, body: { kind: "Status", message: "may not" } } : undefined;
  const { objects } = await facts({ urlPrefix: here(), caData: ca });
  t.same(objects.HyperNode, { known: true, items: [] });
  t.match(objects.Queue, { known: false, why: /has no Queue of scheduling\.volcano\.sh/ });
  t.match(objects.Node, { known: false, why: /may not/ });
  api.missing.clear();
  api.intercept = () => undefined;
});

t.test("an extender by address: its answer, its refusal, its certificate, its silence", async (t) => {
  const urlPrefix = here();
  const rows: [string, typeof answer, Partial<ExtenderEntry>, object][] = [
    ["answers", (respond) => respond(200, { NodeNames: [], Error: "" }), { caData: ca }, { ok: true }],
    [
      "not synced",
      (respond) => respond(200, { Error: "ClusterNotSynced" }),
      { caData: ca },
      { ok: false, message: /Synced/ },
    ],
    ["broken", (respond) => respond(500, {}), { caData: ca }, { ok: false, message: "answers 500" }],
    ["unknown CA", (respond) => respond(200, {}), {}, { ok: false, message: /certificate/ }],
    ["hangs", () => undefined, { caData: ca }, { ok: false, message: "no answer in time" }],
    [
      "nobody",
      () => undefined,
      { caData: ca, urlPrefix: "https://127.0.0.1:1/extender" },
      { ok: false, message: /ECONNREFUSED/ },
    ],
  ];
  for (const [name, behaviour, entry, expected] of rows) {
    answer = behaviour;
    const { reached } = await facts({ urlPrefix, ...entry });
    t.match(reached.get(entry.urlPrefix ?? urlPrefix), expected, name);
  }
  const elsewhere = await facts({ urlPrefix, caFile: "/on/another/machine" });
  t.equal(elsewhere.reached.size, 0, "what cannot be verified from here is not judged");
});

t.test("an extender behind a Service is called through the API server", async (t) => {
  const path = "/api/v1/namespaces/tandem-system/services/https:tandem-webhook:443/proxy/extender/filter";
  for (const [body, expected] of [
    [{ NodeNames: [], Error: "" }, { ok: true }],
    [{ Error: "not ready" }, { ok: false, message: "not ready" }],
  ] as const) {
    api.intercept = (request) => (request.path === path ? { status: 200, body } : undefined);
    const { reached } = await facts();
    t.match(reached.get(SHIPPED.extenders[0]!.urlPrefix), expected);
  }
  api.put({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "tandem-webhook", namespace: "tandem-system" },
    spec: { clusterIP: "10.96.0.7" },
  });
  const byAddress = await facts({ urlPrefix: "https://10.96.0.7:443/extender" });
  t.match(byAddress.reached.get("https://10.96.0.7:443/extender"), { ok: false, message: "not ready" });
});
