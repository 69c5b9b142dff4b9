/** R2: targets are always endpoints of the pool: whoever names another address, the router neither goes nor sends there. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer as createEngine } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import type { Pod } from "../../src/kinds/kube.ts";
import {
  HEADER,
  LABEL,
  LB_METADATA_NAMESPACE,
  SUBSET_METADATA_NAMESPACE,
  UNTRUSTED_HEADERS,
} from "../../src/kinds/names.ts";
import { messageField, textField } from "../../src/router/extproc/wire.ts";
import { ProcessClient } from "../../src/simulator/gateway/client.ts";
import type { DecodedReply } from "../../src/simulator/gateway/codec.ts";
import { startApiServer } from "../support/apiserver.ts";
import { freePorts } from "../support/ports.ts";
import { answerOf, chunkOf, comes, headOf, JSON_POST, sizeOf, startRouterProcess } from "./router-process.ts";
import type { RouterProcess } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

/** Attempts of each way; the row asks for 1000. */
const COUNT = sizeOf("R2_COUNT", 1000);
const AT_ONCE = 50;
/** Of the pool: a prefill engine that runs, and a decode engine, where nobody but Envoy goes. */
const DECODE = "127.0.0.2:9";
const POD = "127.64.0.1:8000";

interface Attempt {
  readonly headers?: readonly (readonly [string, string])[];
  readonly path?: string;
  /** Members of the body beside model and prompt. */
  readonly members?: object;
  readonly prompt?: string;
  /** Metadata or attributes with the request, and with the answer. */
  readonly beside?: Buffer;
  readonly served?: Buffer;
}

type Way = (trap: string, n: number) => Attempt;

const struct = (key: string, value: Buffer): Buffer => messageField(1, [textField(1, key), messageField(2, [value])]);
const metadata = (namespace: string, key: string, text: string): Buffer =>
  messageField(8, [messageField(1, [textField(1, namespace), messageField(2, [struct(key, textField(3, text))])])]);
const attribute = (key: string, text: string): Buffer =>
  messageField(9, [textField(1, "envoy.filters.http.ext_proc"), messageField(2, [struct(key, textField(3, text))])]);

const alternating = (name: string): string =>
  name.replace(/[^]/g, (letter, index: number) => (index % 2 === 0 ? letter.toUpperCase() : letter));
const SPELLINGS: readonly ((name: string) => string)[] = [
  (name) => name,
  (name) => name.toUpperCase(),
  alternating,
  (name) => name.replaceAll("-", "_"),
  (name) => name.replace("-", "_"),
  (name) => ` ${name}`,
];
const VALUES: readonly ((trap: string) => string)[] = [
  (trap) => trap,
  (trap) => `${trap},${DECODE}`,
  (trap) => `${DECODE},${trap}`,
  (trap) => `"${trap}"`,
  (trap) => ` ${trap}\t`,
  (trap) => `http://${trap}/`,
  (trap) => `[::ffff:${trap.replace(":", "]:")}`,
];
const at = <T>(values: readonly T[], n: number): T => values[n % values.length] as T;
const NAMES = [...UNTRUSTED_HEADERS, "x-envoy-original-dst-host", "target-pod", "x-prefill-host", "x-request-host"];
const MEMBERS: readonly ((host: string, port: number, trap: string) => object)[] = [
  (host, port) => ({ kv_transfer_params: { do_remote_prefill: true, remote_host: host, remote_port: port } }),
  (host, port) => ({ vllm_xargs: { kv_transfer_params: { remote_host: host, remote_port: port } } }),
  (host) => ({ ec_transfer_params: { image: { peer_host: host } } }),
  (host, port) => ({ bootstrap_host: host, bootstrap_port: port, bootstrap_room: 1 }),
  (host, port) => ({ remote_host: host, remote_port: port, prefill_host: host, prefill_addr: `${host}:${port}` }),
  (_, __, trap) => ({
    disaggregated_params: { ctx_info_endpoint: trap },
    destination: trap,
    metaserver: `http://${trap}`,
  }),
];

const WAYS: Readonly<Record<string, Way>> = {
  headers: (trap, n) => {
    const name = at(SPELLINGS, Math.floor(n / NAMES.length))(at(NAMES, n));
    const header = [name, at(VALUES, Math.floor(n / 7))(trap)] as const;
    return { headers: n % 3 === 0 ? [header, header] : [header] };
  },
  destinationMetadata: (trap, n) => ({
    beside: metadata(LB_METADATA_NAMESPACE, HEADER.destination, at(VALUES, n)(trap)),
  }),
  subsetMetadata: (trap, n) => ({
    beside: metadata(SUBSET_METADATA_NAMESPACE, HEADER.destinationSubset, at(VALUES, n)(trap)),
  }),
  servedMetadata: (trap, n) => ({
    served: metadata(LB_METADATA_NAMESPACE, HEADER.destinationServed, at(VALUES, n)(trap)),
  }),
  upstreamAddress: (trap, n) => ({
    beside: attribute("upstream.address", at(VALUES, n)(trap)),
    served: attribute("upstream.address", at(VALUES, n)(trap)),
  }),
  bodyMembers: (trap, n) => {
    const [host = "", port = ""] = trap.split(":");
    return { members: at(MEMBERS, n)(host, Number(port), trap) };
  },
  absolutePath: (trap, n) => ({
    path: at([`http://${trap}`, `//${trap}`, `@${trap}`, `/..//${trap}`], n) + "/v1/completions",
  }),
  host: (trap, n) => ({ headers: [[at([":authority", "host", "x-forwarded-host", "forwarded"], n), trap]] }),
  redirect: (_, n) => ({ prompt: `redirect ${n}` }),
};

interface Tally {
  attempts: number;
  /** Answers with a destination, and those by the router itself. */
  picked: number;
  refused: number;
  /** Destinations that are not of the pool, in header or metadata; headers and bodies that go on naming the trap. */
  strayed: number;
  carried: number;
}

const TELLING = ["kv_transfer_params", "ec_transfer_params", "vllm_xargs", "sampling_params", "bootstrap_host"];

/** Whether the decode engine would be told of the host by the members that engines go by. */
function tells(body: string, host: string): boolean {
  const members = JSON.parse(body || "{}") as Readonly<Record<string, unknown>>;
  return JSON.stringify(TELLING.map((name) => members[name])).includes(host);
}

function judge(replies: readonly DecodedReply[], pool: ReadonlySet<string>, trap: string, tally: Tally): void {
  const [first] = replies;
  if (first === undefined || first.status !== undefined) {
    tally.refused += 1;
    return;
  }
  tally.picked += 1;
  const named = [first.destination ?? "", new Map(first.set).get(HEADER.destination) ?? ""];
  if (!named.every((address) => pool.has(address))) tally.strayed += 1;
  const texts = replies.flatMap(({ set }) => set.map(([, value]) => value));
  const body = replies.map(({ streamed }) => streamed?.chunk.toString() ?? "").join("");
  if (texts.some((text) => text.includes(trap)) || tells(body, trap.slice(0, trap.indexOf(":")))) tally.carried += 1;
}

async function attempt(
  client: ProcessClient,
  { headers = [], path, members, prompt, ...more }: Attempt,
): Promise<DecodedReply[]> {
  const first = JSON_POST.map(([name, value]) => [name, name === ":path" ? (path ?? value) : value] as const);
  const stream = client.open();
  stream.send(Buffer.concat([headOf([...first, ...headers]), more.beside ?? Buffer.alloc(0)]));
  stream.send(chunkOf(JSON.stringify({ model: "m", prompt: prompt ?? "a question", max_tokens: 4, ...members })));
  const replies = [await stream.next()];
  if (replies[0]?.status === undefined && replies[0] !== undefined) {
    replies.push(await stream.next());
    stream.send(Buffer.concat([answerOf(true), more.served ?? Buffer.alloc(0)]));
    replies.push(await stream.next());
  }
  stream.reset();
  return replies.filter((reply) => reply !== undefined);
}

interface Asked {
  readonly router: RouterProcess;
  readonly pool: ReadonlySet<string>;
  readonly trap: string;
  readonly way: Way;
}

async function askAll({ router, pool, trap, way }: Asked): Promise<Tally> {
  const tally: Tally = { attempts: 0, picked: 0, refused: 0, strayed: 0, carried: 0 };
  const client = new ProcessClient(router.address);
  for (; tally.attempts < COUNT; tally.attempts += AT_ONCE) {
    const batch = Array.from({ length: AT_ONCE }, (_, n) => attempt(client, way(trap, tally.attempts + n)));
    for (const replies of await Promise.all(batch)) judge(replies, pool, trap, tally);
  }
  void client.close();
  return tally;
}

/** Nobody has any business here. */
async function startTrap(): Promise<{ readonly address: string; connects(): number; stop(): void }> {
  let count = 0;
  const server = createServer((socket) => {
    count += 1;
    socket.destroy();
  });
  server.listen(0, "127.0.0.9");
  await once(server, "listening");
  return {
    address: `127.0.0.9:${(server.address() as AddressInfo).port}`,
    connects: () => count,
    stop: () => void server.close(),
  };
}

/** Prefills; what asks for a redirect gets one to the trap, of any kind. */
async function startPrefill(trap: string): Promise<{ readonly address: string; legs(): number; stop(): void }> {
  let legs = 0;
  const server = createEngine((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += String(chunk)));
    request.once("end", () => {
      if (request.method === "POST") legs += 1;
      const sent = /redirect (\d+)/.exec(text)?.[1];
      const status = sent === undefined ? 200 : at([301, 302, 303, 307, 308], Number(sent));
      const location = `http://${trap}${request.url ?? "/"}`;
      response.writeHead(status, sent === undefined ? {} : { location, refresh: `0; url=${location}` });
      response.end(JSON.stringify({ kv_transfer_params: { remote_host: "127.0.0.1" }, choices: [], data: [] }));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { address, legs: () => legs, stop: () => void server.close() };
}

/** A pod whose annotations, labels and host name another address. */
const foreign = (trap: string): Pod => {
  const [host = "", port = ""] = trap.split(":");
  const said = Object.fromEntries(
    ["endpoint", "leader", "address", "members"].map((key) => [
      `status.tandem.sh/${key}`,
      JSON.stringify({ address: trap, host, port }),
    ]),
  );
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "engine-0",
      namespace: "default",
      labels: { [LABEL.model]: "m", [LABEL.role]: "both" },
      annotations: { ...said, "tandem.sh/address": trap, "prometheus.io/port": port },
    },
    spec: {
      hostname: host,
      containers: [
        {
          name: "engine",
          image: "vllm/vllm-openai",
          args: ["--model", "m", "--port", "8000", "--host", host],
          env: [{ name: "VLLM_HOST_IP", value: host }],
          ports: [{ name: "http", containerPort: 8000 }],
        },
      ],
    },
    status: {
      phase: "Running",
      podIP: POD.split(":")[0] ?? "",
      conditions: [{ type: "Ready", status: "True" }],
      containerStatuses: [
        { name: "engine", ready: true, restartCount: 0, state: { running: { startedAt: "2026-01-01T00:00:00Z" } } },
      ],
    },
  };
};

const LIMITS = { maxInflightPerEndpoint: 100_000, scrapeIntervalMs: 200 };

async function ofPods(trap: string): Promise<Tally> {
  const api = await startApiServer();
  api.put(foreign(trap));
  const router = await startRouterProcess({ router: LIMITS, api });
  try {
    const client = new ProcessClient(router.address);
    await comes(async () => (await attempt(client, {}))[0]?.destination !== undefined, 10_000);
    void client.close();
    return await askAll({ router, pool: new Set([POD]), trap, way: (_, n) => ({ prompt: `question ${n}` }) });
  } finally {
    await router.stop();
    await api.stop();
  }
}

/** The ways by which a request itself names an address, against pools of connectors whose bodies name hosts too. */
const CONNECTORS = ["sglang", "mooncake-layerwise", "nixl-push"] as const;
const NAMING = ["headers", "bodyMembers"] as const;

/** Calls for a prefill that nobody waits for, each with a secret of its own guess; how many were not refused. */
async function guesses(callbacks: string, trap: string): Promise<number> {
  const [host = "", port = ""] = trap.split(":");
  const body = JSON.stringify({
    request_id: "chatcmpl-1",
    do_remote_decode: true,
    remote_host: host,
    remote_port: port,
  });
  const headers = { "content-type": "application/json" };
  let taken = 0;
  for (let count = 0; count < COUNT; count += AT_ONCE) {
    const batch = Array.from({ length: AT_ONCE }, () =>
      fetch(`http://${callbacks}/v1/metaserver/${randomUUID()}`, { method: "POST", body, headers }),
    );
    for (const answer of await Promise.all(batch)) if (answer.status !== 404) taken += 1;
  }
  return taken;
}

interface OfConnector {
  readonly connector: (typeof CONNECTORS)[number];
  readonly prefill: string;
  readonly trap: string;
}

async function ofConnector({ connector, prefill, trap }: OfConnector): Promise<readonly [Tally, taken: number]> {
  const total: Tally = { attempts: 0, picked: 0, refused: 0, strayed: 0, carried: 0 };
  const [port = 0] = await freePorts(1);
  const entry = { model: "m", served: ["m"], connector };
  const entries = [
    { ...entry, address: prefill, role: "prefill" },
    { ...entry, address: DECODE, role: "decode" },
  ];
  const callbacks = { listen: `127.0.0.1:${port}`, advertise: "127.0.0.1" };
  const settings = { ...LIMITS, callbacks, prefill: { policy: "always" }, endpoints: { static: entries } };
  const router = await startRouterProcess({ router: settings });
  for (const name of NAMING) {
    const tally = await askAll({ router, pool: new Set([DECODE]), trap, way: WAYS[name] as Way });
    for (const key of Object.keys(total) as (keyof Tally)[]) total[key] += tally[key];
  }
  const taken = connector === "mooncake-layerwise" ? await guesses(callbacks.listen, trap) : 0;
  await router.stop();
  return [total, taken];
}

async function run(progress: Progress): Promise<ScoreResult> {
  const trap = await startTrap();
  const prefill = await startPrefill(trap.address);
  const entries = [
    { address: prefill.address, role: "prefill", model: "m", served: ["m"] },
    { address: DECODE, role: "decode", model: "m", served: ["m"] },
  ];
  const router = await startRouterProcess({
    router: { ...LIMITS, prefill: { policy: "always" }, endpoints: { static: entries } },
  });
  const total = { attempts: 0, picked: 0, refused: 0, strayed: 0, carried: 0 };
  const connects: Record<string, number> = {};
  const take = async (name: string, asked: Promise<Tally>): Promise<Tally> => {
    const before = trap.connects();
    const tally = await asked;
    for (const key of Object.keys(total) as (keyof Tally)[]) total[key] += tally[key];
    connects[`${name}Connects`] = trap.connects() - before;
    progress(`${name}: ${JSON.stringify(tally)}, ${trap.connects() - before} connects`);
    return tally;
  };
  for (const [name, way] of Object.entries(WAYS))
    await take(name, askAll({ router, pool: new Set([DECODE]), trap: trap.address, way }));
  const pods = (await take("annotatedPod", ofPods(trap.address))).picked;
  await router.stop();
  let taken = 0;
  for (const connector of CONNECTORS) {
    const asked = ofConnector({ connector, prefill: prefill.address, trap: trap.address });
    const tally = await take(
      connector,
      asked.then(([all]) => all),
    );
    taken += (await asked)[1];
    if (tally.picked === 0) taken += 1;
  }
  prefill.stop();
  trap.stop();
  const figures = { ...total, legs: prefill.legs(), guessesTaken: taken, ...connects, connects: trap.connects() };
  const met = figures.connects + total.strayed + total.carried + taken === 0 && pods > 0 && prefill.legs() > 0;
  return { figures, met };
}

export const row: ScoreRow = {
  id: "R2",
  fault: `a listener outside of the pool, named ${COUNT} times in each of ${Object.keys(WAYS).length + 1} ways: ${Object.keys(WAYS).join(", ")}, annotatedPod; ${NAMING.join(" and ")} again with ${CONNECTORS.join(", ")}, and as many calls of a decode engine that nobody waits for`,
  required:
    "0 connects to it; each destination is of the pool, in header and metadata; no header and no transfer parameter goes on naming it",
  run,
};
