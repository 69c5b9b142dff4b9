/** `tandem release` against a small API server. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { admitObject } from "../../../src/admission/admit.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { startApiServer, type FakeApiServer } from "../../support/apiserver.ts";
import { tandem, type Ended } from "../../support/command.ts";
import { deployment } from "../../support/placement.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(300_000);

interface Scene {
  readonly server: FakeApiServer;
  readonly release: (...args: string[]) => Promise<Ended>;
}

async function scene(t: Test): Promise<Scene> {
  const server = await startApiServer();
  t.teardown(() => server.stop());
  const file = join(t.testdir({}), "kubeconfig.json");
  const cluster = { server: server.url, "certificate-authority-data": Buffer.from(server.ca).toString("base64") };
  writeFileSync(
    file,
    JSON.stringify({
      "current-context": "c",
      clusters: [{ name: "c", cluster }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    }),
  );
  const release: Scene["release"] = (...args) =>
    tandem(["release", "--set", `cluster.kubeconfig=${file}`, "--settle", "0", ...args]);
  return { server, release };
}

/** As it was applied, and as admission stored it. */
function stored(server: FakeApiServer, name: string, namespace: string): KubeObject {
  const before = deployment(name, { gpus: 8 });
  before.metadata.namespace = namespace;
  const { object } = admitObject(before, { snapshot: EMPTY_SNAPSHOT, settings: loadConfig().admission });
  server.put(object);
  return before;
}

const template = (object: KubeObject | undefined): unknown => (object?.["spec"] as { template?: unknown }).template;

t.test("strips what was injected, says so, and finds nothing the second time", async (t) => {
  const { server, release } = await scene(t);
  const before = stored(server, "p", "a");
  t.notSame(template(server.find("deployments", "p")), template(before), "something was injected");
  const first = await release();
  t.equal(first.code, 0, first.err);
  t.match(first.out, /^deployment\/a\/p: stripped; /m);
  t.same(template(server.find("deployments", "p")), template(before));
  t.match(await release(), { code: 0, out: "", err: "" });
});

t.test("of two namespaces one is let go", async (t) => {
  const { server, release } = await scene(t);
  const [one, two] = [stored(server, "p", "a"), stored(server, "q", "b")];
  t.equal((await release("--namespace", "a")).code, 0);
  t.same(template(server.find("deployments", "p")), template(one));
  t.notSame(template(server.find("deployments", "q")), template(two));
});

t.test("a dry run writes nothing", async (t) => {
  const { server, release } = await scene(t);
  stored(server, "p", "a");
  const { code, out } = await release("--dry-run");
  t.equal(code, 0);
  t.match(out, /deployment\/a\/p: stripped/);
  t.same(
    server.requests.filter(({ method }) => method !== "GET"),
    [],
  );
});

t.test("a workload that somebody writes at the same time is tried again", async (t) => {
  const { server, release } = await scene(t);
  const before = stored(server, "p", "a");
  let conflicts = 0;
  server.intercept = ({ method }) => {
    const found = server.find("deployments", "p");
    // The deployment controller writes a status between our read and our patch, twice.
    if (method === "PATCH" && conflicts < 2 && found !== undefined) {
      conflicts += 1;
      server.put({ ...found, status: { observedGeneration: conflicts } });
    }
    return undefined;
  };
  const { code, err } = await release();
  t.equal(code, 0, err);
  t.equal(conflicts, 2);
  t.same(template(server.find("deployments", "p")), template(before));
});

t.test("what cannot be let go is named, and exit 1", async (t) => {
  const { server, release } = await scene(t);
  stored(server, "p", "a");
  const body = { kind: "Status", apiVersion: "v1", metadata: {}, reason: "Forbidden", message: "no" };
  server.intercept = ({ method }) => (method === "PATCH" ? { status: 403, body } : undefined);
  const { code, err } = await release();
  t.equal(code, 1);
  t.match(err, /deployment\/a\/p: Deployment not released: .*no$/m);
});

t.test("no cluster, no rights: one line", async (t) => {
  const { server, release } = await scene(t);
  const body = { kind: "Status", apiVersion: "v1", metadata: {}, reason: "Forbidden", message: "not for you" };
  server.intercept = () => ({ status: 403, body });
  t.match(await release(), { code: 1, err: /^tandem: GET .*: not for you\n$/ });
  t.match(await release("--settle", "soon"), { code: 2, err: /^tandem: --settle soon: give seconds from 0 to 600\n$/ });
});
