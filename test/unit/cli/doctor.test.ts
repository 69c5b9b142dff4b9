import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { tandem, type Ended } from "../../support/command.ts";
import { HEALTHY, podGroup, withObjects } from "../../support/doctor.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(300_000);

const SHIPPED = "manifests/components/second-scheduler/scheduler-configuration.yaml";

function run(t: Test, objects: readonly unknown[], ...args: string[]): Promise<Ended> {
  const file = join(t.testdir(), "input.json");
  writeFileSync(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  return tandem(["doctor", "-f", file, ...args]);
}

t.test("one line a check, and exit 0 where none failed; a configuration may be given by --set", async (t) => {
  const { code, out, err } = await run(t, HEALTHY, "-f", SHIPPED);
  const lines = out.trimEnd().split("\n");
  t.equal(lines.length, 28);
  for (const line of lines) t.match(line, /^(ok|warn|fail|skip) +[a-z-]+ +\S/);
  t.match(out, /^ok +extender-timeout +a hanging call ends within 2 s$/m);
  t.match(err, /^\d+ ok, \d+ warned, \d+ failed, \d+ not checked\n$/);
  // The certificate of the test was valid in another month.
  t.equal(code, 1);
  t.match(out, /^fail +certificate +\S.* See that the controller runs/m);
  const other = await run(t, HEALTHY, "--set", "controller.webhookConfiguration=other");
  t.match(other.out, /^fail +webhooks +there is no MutatingWebhookConfiguration/m);
});

t.test("a hint stands on the line of what failed, and in JSON", async (t) => {
  const broken = withObjects(podGroup({ minMember: 1, minTaskMember: { decode: 2 } })).filter(
    ({ kind }) => kind !== "Secret",
  );
  const { code, out } = await run(t, broken, "-o", "json");
  t.equal(code, 1);
  const { checks } = JSON.parse(out) as { checks: { check: string; state: string }[] };
  t.match(
    checks.find(({ check }) => check === "podgroup-sums"),
    { state: "fail", reason: "PodGroupSums", message: /sums to 2, minMember is 1/, hint: /Raise minMember/ },
  );
  t.same(Object.keys(checks[0] ?? {}), ["check", "state", "reason", "message", "hint"]);
});

t.test("exit 0 on files in which nothing is wrong", async (t) => {
  const { code, err } = await tandem(["doctor", "-f", SHIPPED]);
  t.equal(code, 0, err);
});

t.test("a cluster that does not answer is a finding with a hint, and exit 1", async (t) => {
  const kubeconfig = join(t.testdir(), "kubeconfig");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }],
    users: [{ name: "u", user: { token: "t" } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  const { code, out } = await tandem(["doctor"], { KUBECONFIG: kubeconfig });
  t.equal(code, 1);
  t.match(out, /^fail +api-server +.*ECONNREFUSED.*Check the kubeconfig/);
});

t.test("bad usage and unreadable input are 2, and help shows an example", async (t) => {
  t.match(await run(t, [], "-o", "xml"), { code: 2, err: /accepted are table, json/ });
  t.match(await tandem(["doctor", "-f", "/does/not/exist.yaml"]), { code: 2, err: /cannot be read/ });
  t.match(await run(t, [{ kind: "Node" }]), { code: 2, err: /not a Kubernetes object/ });
  t.match(await run(t, [{ apiVersion: "v1", kind: "Pod", metadata: { name: "p" } }]), {
    code: 2,
    err: /Pod p: spec\.containers/,
  });
  t.match(await tandem(["doctor", "--help"]), { code: 0, out: /Examples:\n +tandem doctor/ });
});
