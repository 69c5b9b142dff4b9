/** KubeReader and KubeWriter against the fake API server: what goes over the wire, and what comes of each answer. */
import t from "tap";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClientOver, createKubeClient, type KubeClient } from "../../src/cluster/client.ts";
import { KubeError } from "../../src/kinds/kube-error.ts";
import type { KubeObject, ObjectRef } from "../../src/kinds/kube.ts";
import { changed, warned } from "../../src/kinds/verdict.ts";
import { VirtualTime } from "../../src/simulator/engine/virtual-time.ts";
import { startApiServer, type FakeApiServer } from "../support/apiserver.ts";

const REF: ObjectRef = { apiVersion: "v1", plural: "configmaps", namespace: "a", name: "x" };
const object = (name = "x", data: object = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "a" },
  data,
});

let server: FakeApiServer;
let time: VirtualTime;
let client: KubeClient;
t.beforeEach(async () => {
  server = await startApiServer();
  time = new VirtualTime(1_700_000_000_000);
  client = createClientOver(server.transport(300), { clock: time });
});
t.afterEach(() => server.stop());

const failure = async (call: Promise<unknown>): Promise<KubeError> => {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof KubeError) return error;
  throw new Error("a KubeError was expected");
};

t.test("get: the object, or undefined where there is none", async (t) => {
  t.equal(await client.get(REF), undefined);
  server.put(object());
  t.match(await client.get(REF), { kind: "ConfigMap", metadata: { name: "x" } });
  t.equal(server.requests.at(-1)?.path, "/api/v1/namespaces/a/configmaps/x");
});

t.test("list: every page, each item with its kind, by selector", async (t) => {
  for (let i = 0; i < 501; i++) server.put(object(`c${i}`));
  const found = await client.list({ apiVersion: "v1", plural: "configmaps" }, "tandem.sh/owned-by=controller");
  t.equal(found.length, 0);
  const all = await client.list({ apiVersion: "v1", plural: "configmaps", namespace: "a" });
  t.equal(all.length, 501);
  t.match(all[500], { apiVersion: "v1", kind: "ConfigMap" });
});

t.test("apply: server-side, forced, under the manager's name", async (t) => {
  await client.apply(object("x", { k: "v" }), "tandem-controller");
  t.match(server.requests.at(-1), {
    method: "PATCH",
    contentType: "application/apply-patch+yaml",
    query: { fieldManager: "tandem-controller", force: "true" },
  });
});

t.test("patches carry their own content type and the client's manager", async (t) => {
  server.put(object());
  const releasing = createClientOver(server.transport(), { clock: time, manager: "tandem-release" });
  await releasing.patch(REF, "json", [{ op: "add", path: "/data", value: { a: "1" } }]);
  t.match(server.requests.at(-1), {
    contentType: "application/json-patch+json",
    query: { fieldManager: "tandem-release" },
  });
  const after = await releasing.patch(REF, "merge", { data: { b: "2" } });
  t.same(after["data"], { a: "1", b: "2" });
});

t.test("remove: what is gone is gone; another incarnation is left alone", async (t) => {
  await client.remove(REF);
  const stored = server.put(object());
  await client.remove(REF, "another-uid");
  t.ok(server.find("configmaps", "x"));
  await client.remove(REF, stored.metadata.uid);
  t.equal(server.find("configmaps", "x"), undefined);
});

t.test("remove: with a version, only as it was read; what has changed stays, and that is said", async (t) => {
  const read = server.put(object());
  const { uid, resourceVersion } = read.metadata;
  const now = server.put({ ...read, data: { a: "changed" } });
  t.match(await failure(client.remove(REF, uid, resourceVersion)), { status: 409 });
  t.ok(server.find("configmaps", "x"));
  await client.remove(REF, uid, now.metadata.resourceVersion);
  t.equal(server.find("configmaps", "x"), undefined);
});

t.test("errors: one type, with status and reason", async (t) => {
  await client.create(object());
  t.match(await failure(client.create(object())), { status: 409, reason: "AlreadyExists", message: /already exists/ });
  const stale = { metadata: { resourceVersion: "1" } };
  t.match(await failure(client.patch(REF, "merge", stale)), { status: 409, reason: "Conflict" });
  server.intercept = () => ({ status: 200, body: "not json" });
  t.match(await failure(client.get(REF)), { status: 0, reason: "Malformed" });
  server.intercept = () => ({ status: 200, body: { items: 1 } });
  t.match(await failure(client.get(REF)), { reason: "Malformed" });
  server.intercept = () => ({ status: 500, body: "boom" });
  t.match(await failure(client.get(REF)), { status: 500, message: /GET .*configmaps\/x: 500 boom/ });
  server.intercept = () => "reset";
  t.match(await failure(client.get(REF)), { status: 0, reason: "Unreachable" });
  server.intercept = () => "hang";
  t.match(await failure(client.get(REF)), { status: 0, reason: "Timeout" });
});

t.test("an Event is told once for the same object, reason and message, and again an hour later", async (t) => {
  const about = server.put(object());
  await client.event(about, changed("SizesPublished", "written"));
  await client.event(about, changed("SizesPublished", "written"));
  t.equal(server.all("events").length, 1);
  await client.event(about, warned("SizesFixed", "differs"));
  t.same(
    server.all("events").map((event) => [event["type"], event["reason"], event.metadata.namespace]),
    [
      ["Normal", "SizesPublished", "a"],
      ["Warning", "SizesFixed", "a"],
    ],
  );
  const posts = (): number => server.requests.filter(({ method }) => method === "POST").length;
  const before = posts();
  await createClientOver(server.transport(), { clock: time }).event(about, warned("SizesFixed", "differs"));
  t.equal(server.all("events").length, 2, "another process tells the same: the server knows it already");
  time.advance(3_600_000);
  await client.event(about, warned("SizesFixed", "differs"));
  t.equal(posts(), before + 2);
});

t.test("a kubeconfig: authority, bearer token, keep-alive; what is missing is said", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "tandem-"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "config");
  writeFileSync(
    file,
    JSON.stringify({
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
      clusters: [
        {
          name: "k",
          cluster: { server: server.url, "certificate-authority-data": Buffer.from(server.ca).toString("base64") },
        },
      ],
      users: [{ name: "u", user: { token: "secret" } }],
    }),
  );
  const config = { kubeconfig: file, namespace: "", requestTimeoutMs: 2000 };
  const real = await createKubeClient(config, { clock: time });
  t.equal(await real.get(REF), undefined);
  server.put(object());
  t.match(await real.get(REF), { kind: "ConfigMap" });
  real.close();
  const missing = createKubeClient({ ...config, kubeconfig: join(directory, "none") }, { clock: time });
  t.match(await failure(missing), { status: 0, message: /none.*ENOENT/ });
});

t.test("bind: one incarnation to one node, by its deadline", async (t) => {
  const pod = { namespace: "a", name: "p", uid: "u" };
  server.intercept = () => ({
    status: 201,
    body: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" },
  });
  await client.bind(pod, "n", 200);
  t.match(server.requests.at(-1), {
    method: "POST",
    path: "/api/v1/namespaces/a/pods/p/binding",
    body: { kind: "Binding", metadata: { uid: "u" }, target: { kind: "Node", name: "n" } },
  });
  server.intercept = () => ({ status: 409, body: { kind: "Status", reason: "Conflict", message: "bound" } });
  t.equal((await failure(client.bind(pod, "n", 200))).status, 409);
  server.intercept = () => "hang";
  t.match(await failure(client.bind(pod, "n", 50)), { status: 0, reason: "Aborted" });
});
