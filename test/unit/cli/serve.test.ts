/** `tandem serve` as a process: how it fails to start, and how it stops. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { request } from "node:https";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { randomUUID } from "node:crypto";
import t, { type Test } from "tap";
import { issueAuthority, issueServing } from "../../../src/certs/issue.ts";
import { tandem } from "../../support/command.ts";
import { startApiServer } from "../../support/apiserver.ts";
import { freePorts } from "../../support/ports.ts";

const MAIN = fileURLToPath(new URL("../../../src/main.ts", import.meta.url));
t.setTimeout(300_000);

interface Serving {
  readonly child: ChildProcess;
  readonly errors: () => string;
  readonly ended: Promise<number | null>;
  /** Resolves when this stands in its log; rejects when it ends before. */
  readonly said: (text: string) => Promise<void>;
}

function serve(t: Test, args: readonly string[]): Serving {
  const child = spawn(process.execPath, [MAIN, "serve", ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"], HOME: "/nonexistent" },
  });
  t.teardown(() => child.kill("SIGKILL"));
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const ended = once(child, "close").then(([code]) => code as number | null);
  const said = async (text: string): Promise<void> => {
    while (!errors.includes(text)) {
      const more = await Promise.race([once(child.stderr, "data"), ended.then(() => undefined)]);
      if (more === undefined) throw new Error(`ended without "${text}":\n${errors}`);
    }
  };
  return { child, errors: () => errors, ended, said };
}

async function heldPort(t: Test): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A folder with a kubeconfig of a fake API server, and serving certificates. */
async function scene(t: Test): Promise<{ kubeconfig: string; certificates: string; authority: string }> {
  const api = await startApiServer();
  t.teardown(() => api.stop());
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, ["127.0.0.1"]);
  const nonsense = { "tls.crt": "nonsense", "tls.key": "nonsense" };
  const folder = t.testdir({ "tls.crt": serving.certificate, "tls.key": serving.key, nonsense });
  const kubeconfig = join(folder, "kubeconfig.json");
  const certificate = Buffer.from(api.ca).toString("base64");
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      "current-context": "c",
      clusters: [{ name: "c", cluster: { server: api.url, "certificate-authority-data": certificate } }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    }),
  );
  return { kubeconfig, certificates: folder, authority: authority.certificate };
}

const OFF = ["metrics.listen=", "admin.listen=", "router.healthListen="];
const settings = (pairs: readonly string[]): string[] => [...OFF, ...pairs].flatMap((pair) => ["--set", pair]);

for (const [what, args, code, message] of [
  ["an unknown role", ["--role", "nobody"], 2, /^tandem: --role nobody: unknown role; accepted: admission, .*\n$/],
  ["no such kubeconfig", ["--set", "cluster.kubeconfig=/nonexistent"], 1, /^tandem: \/nonexistent: ENOENT.*\n$/],
] as const)
  t.test(`${what}: one line, exit ${code}`, async (t) => {
    const ended = await tandem(["serve", ...args]);
    t.equal(ended.code, code);
    t.match(ended.err, message);
  });

t.test("the stack of a failure is there for whoever asks", async (t) => {
  const args = ["serve", "--set", "cluster.kubeconfig=/nonexistent"];
  t.match((await tandem(args, { TANDEM_LOG_LEVEL: "debug" })).err, /^ +at /m);
});

t.test("a port in use: what had been started is stopped, so the process ends", async (t) => {
  const { kubeconfig, certificates } = await scene(t);
  const pairs = [`cluster.kubeconfig=${kubeconfig}`, `admission.certificates.directory=${certificates}`];
  const held = `admission.listen=127.0.0.1:${await heldPort(t)}`;
  const { ended, errors } = serve(t, ["--role", "controller,admission", ...settings([...pairs, held])]);
  t.equal(await ended, 1);
  t.match(errors(), /^tandem: listen EADDRINUSE: address already in use 127\.0\.0\.1:\d+$/m);
  t.notMatch(errors(), /^ +at /m);
});

t.test("certificates that are not there, or no certificates: exit 2, with the folder's name", async (t) => {
  const { kubeconfig, certificates } = await scene(t);
  for (const [directory, why] of [
    ["/nonexistent", /^tandem: admission.certificates.directory \/nonexistent: ENOENT/m],
    [join(certificates, "nonsense"), /^tandem: admission.certificates.directory .*: .*PEM/m],
  ] as const) {
    const pairs = [`cluster.kubeconfig=${kubeconfig}`, `admission.certificates.directory=${directory}`];
    const { ended, errors } = serve(t, ["--role", "admission", ...settings(pairs)]);
    t.equal(await ended, 2);
    t.match(errors(), why);
  }
});

/** Status of one call, and whether the server keeps the connection. */
const call = (port: number, ca: string): Promise<{ status: number; connection: string | undefined }> =>
  new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path: "/admission/mutate", method: "POST", ca };
    const headers = { "content-type": "application/json" };
    request({ ...options, headers }, (answer) => {
      answer.resume();
      resolve({ status: answer.statusCode ?? 0, connection: answer.headers.connection });
    })
      .once("error", reject)
      .end("{}");
  });

t.test("after SIGTERM webhooks go on answering, with Connection: close, and then the process ends", async (t) => {
  const { kubeconfig, certificates, authority } = await scene(t);
  const port = (await freePorts(1))[0]!;
  const { child, ended, said } = serve(t, [
    "--role",
    "admission",
    ...settings([
      `cluster.kubeconfig=${kubeconfig}`,
      `admission.certificates.directory=${certificates}`,
      `admission.listen=127.0.0.1:${port}`,
      "admission.drainMs=1500",
    ]),
  ]);
  await said("tandem serves");
  t.match(await call(port, authority), { status: 400, connection: "keep-alive" });
  const begun = performance.now();
  child.kill("SIGTERM");
  await said("stopping");
  t.match(await call(port, authority), { status: 400, connection: "close" });
  t.equal(await ended, 0);
  const took = performance.now() - begun;
  t.ok(took >= 1400 && took < 10_000, `ended after ${took} ms`);
});

t.test("a second signal does not wait", async (t) => {
  const { kubeconfig, certificates } = await scene(t);
  const pairs = [`cluster.kubeconfig=${kubeconfig}`, `admission.certificates.directory=${certificates}`];
  const more = [`admission.listen=127.0.0.1:${(await freePorts(1))[0]!}`, "admission.drainMs=20000"];
  const { child, ended, said } = serve(t, ["--role", "admission", ...settings([...pairs, ...more])]);
  await said("tandem serves");
  child.kill("SIGTERM");
  await said("stopping");
  child.kill("SIGINT");
  t.equal(await ended, 1);
});

t.test("a router that cannot start says which key is wrong, and ends", async (t) => {
  const held = await heldPort(t);
  const short = join(t.testdir({ salt: "ab" }), "salt");
  const endpoint = JSON.stringify([{ address: "127.0.0.1:1", role: "both", model: "m" }]);
  const off = ["metrics.listen=", "admin.listen=", "router.healthListen=", "router.listen=127.0.0.1:0"];
  const table: readonly (readonly [sets: readonly string[], says: RegExp])[] = [
    [["router.listen="], /router\.listen must not be empty/],
    [[`router.listen=127.0.0.1:${held}`], /router\.listen: listen EADDRINUSE/],
    [[`router.healthListen=127.0.0.1:${held}`], /router\.healthListen: listen EADDRINUSE/],
    [["router.tls.certFile=/nope", "router.tls.keyFile=/nope"], /router\.tls\.certFile \/nope/],
    [["router.replicas.tokenFile=/nope"], /router\.replicas\.tokenFile \/nope/],
    [[`router.tenant.saltKeyFile=${short}`], /saltKeyFile: .* has 2 bytes/],
    [["router.tenant.saltKeyFile=/nope"], /router\.tenant\.saltKeyFile \/nope: ENOENT/],
    [["router.replicas.listen=127.0.0.1:0"], /router\.replicas\.listen: nobody is heard/],
    [["router.replicas.peers=foo"], /router\.replicas\.peers: foo is no host:port/],
    [["router.callbacks.listen=127.0.0.1:0"], /router\.callbacks\.advertise: decode engines must be told/],
    [
      [`router.callbacks.listen=127.0.0.1:${held}`, "router.callbacks.advertise=127.0.0.1"],
      /router\.callbacks\.listen: listen EADDRINUSE/,
    ],
    [["router.inferencePool=a/b"], /router\.inferencePool and router\.endpoints\.static exclude each other/],
  ];
  await Promise.all(
    table.map(async ([sets, says]) => {
      const all = [`router.endpoints.static=${endpoint}`, ...off, ...sets].flatMap((set) => ["--set", set]);
      const { ended, errors } = serve(t, ["--role", "router", ...all]);
      t.equal(await ended, 2, sets.join());
      t.match(errors(), says);
    }),
  );
});
