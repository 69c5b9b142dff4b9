import t from "tap";
import { loadConfig } from "../../src/config/load.ts";
import { createPorts, type RolePorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole, type RouterRole } from "../../src/cli/roles/router.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { HEADER, NAMESPACE_METADATA } from "../../src/kinds/names.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { ProcessClient, type ProcessStream } from "../../src/simulator/gateway/client.ts";
import { encodeBody, encodeHeaders, encodeTrailers, type DecodedReply } from "../../src/simulator/gateway/codec.ts";
import { startGateway } from "../../src/simulator/gateway/server.ts";
import { startEngine, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { engineOptions } from "../support/engines.ts";
import type { BodyMode } from "../../src/router/extproc/codec.ts";

const MODEL = "qwen3-32b";

interface Rig {
  readonly ports: RolePorts;
  readonly router: RouterRole;
  readonly prefill: RunningEngine[];
  readonly decode: RunningEngine[];
  readonly stop: () => Promise<void>;
}

async function rig(more: Record<string, string> = {}, namespaces: readonly string[] = []): Promise<Rig> {
  const ports = createPorts(loadConfig(), SILENT_LOG);
  const start = (role: "prefill" | "decode") => startEngine(engineOptions({ role, models: [MODEL] }), ports);
  const prefill = await Promise.all([start("prefill"), start("prefill")]);
  const decode = await Promise.all([start("decode"), start("decode")]);
  const entries = [
    ...prefill.map(({ address }) => ({ address, role: "prefill" })),
    ...decode.map(({ address }) => ({ address, role: "decode" })),
  ];
  const text = JSON.stringify({
    router: { endpoints: { static: entries.map((entry) => ({ ...entry, model: MODEL })) } },
  });
  const flags = { "router.listen": "127.0.0.1:0", "router.healthListen": "", "router.explainHeaders": "true", ...more };
  const config = loadConfig({ text, flags });
  const endpoints = staticEndpoints(config.router.endpoints.static).map((endpoint, index) => ({
    ...endpoint,
    namespace: namespaces[index % 2] ?? "",
  }));
  const router = await startRouterRole({ ...ports, config }, { endpoints: () => endpoints, synced: () => true });
  const stop = async (): Promise<void> => {
    await router.stop();
    await Promise.all([...prefill, ...decode].map((engine) => engine.stop()));
  };
  return { ports, router, prefill, decode, stop };
}

const headers = (more: [string, string][] = []): [string, string][] => [
  [":method", "POST"],
  [":path", "/v1/chat/completions"],
  ["content-type", "application/json"],
  ...more,
];
const words = (count: number, salt = ""): string => `${salt} ${"the quick brown fox ".repeat(count / 4)}`;
const chat = (more: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({ model: MODEL, max_tokens: 4, messages: [{ role: "user", content: words(400) }], ...more }),
  );

/** One exchange as Envoy would have it, with a body in two chunks (or whole, where buffered). */
async function exchange(
  client: Pick<ProcessClient, "open">,
  mode: BodyMode,
  body: Buffer,
  more: [string, string][] = [],
): Promise<DecodedReply[]> {
  const stream = client.open();
  const replies: DecodedReply[] = [];
  const next = async (): Promise<DecodedReply | undefined> => {
    const reply = await stream.next();
    if (reply !== undefined) replies.push(reply);
    return reply;
  };
  stream.send(encodeHeaders("requestHeaders", headers(more), false, { request: mode, response: "NONE" }));
  if (mode === "BUFFERED") {
    const first = await next();
    if (first?.kind === "immediate") return replies;
    stream.send(encodeBody("requestBody", body, true));
    // A slow pick asks for more time before.
    while ((await next())?.waitMs !== undefined);
  } else await duplexBody(stream, body, next);
  stream.end();
  return replies;
}

async function duplexBody(
  stream: ProcessStream,
  body: Buffer,
  next: () => Promise<DecodedReply | undefined>,
): Promise<void> {
  const half = Math.floor(body.length / 2);
  stream.send(encodeBody("requestBody", body.subarray(0, half), false));
  stream.send(encodeBody("requestBody", body.subarray(half), true));
  for (
    let reply = await next();
    reply !== undefined && reply.kind !== "immediate" && reply.streamed?.endOfStream !== true;
  )
    reply = await next();
}

t.test("a namespace's requests stay there: the route says whose they are, and never the client", async (t) => {
  const { router, decode, stop } = await rig({}, ["a", "b"]);
  const client = new ProcessClient(router.address);
  const ask = async (metadata: Record<string, string>, more: [string, string][] = []): Promise<DecodedReply> => {
    const routed = { open: () => client.open(metadata) };
    const replies = await exchange(routed, "FULL_DUPLEX_STREAMED", chat(), more);
    return replies.find(({ kind, destination }) => kind === "immediate" || destination !== undefined)!;
  };
  for (const [index, namespace] of ["a", "b"].entries())
    for (let round = 0; round < 3; round++)
      t.equal((await ask({ [NAMESPACE_METADATA]: namespace })).destination, decode[index]?.address, namespace);
  const refused = await ask({}, [[NAMESPACE_METADATA, "a"]]);
  t.equal(refused.kind, "immediate");
  t.match(JSON.stringify(refused), /ModelAmbiguous/);
  t.match(JSON.stringify(await ask({ [NAMESPACE_METADATA]: "c" })), /ModelUnknown/);
  await client.close();
  await stop();
});

t.test(
  "both modes: destination in header and metadata, transfer parameters spliced into the decode body",
  async (t) => {
    const { router, prefill, decode, stop } = await rig();
    const client = new ProcessClient(router.address);
    for (const mode of ["FULL_DUPLEX_STREAMED", "BUFFERED"] as const) {
      const replies = await exchange(client, mode, chat({ messages: [{ role: "user", content: words(400, mode) }] }), [
        [HEADER.destination, "6.6.6.6:666"],
      ]);
      const chosen = replies.find(({ destination }) => destination !== undefined)!;
      t.ok(
        decode.some(({ address }) => address === chosen.destination),
        `${mode}: a decode engine`,
      );
      t.same(
        chosen.set.filter(([name]) => name === HEADER.destination),
        [[HEADER.destination, chosen.destination]],
        mode,
      );
      t.ok(
        replies.some(({ remove }) => remove.includes(HEADER.prefiller)),
        mode,
      );
      const sent = Buffer.concat(replies.flatMap(({ body, streamed }) => [body ?? streamed?.chunk ?? Buffer.alloc(0)]));
      const decoded = JSON.parse(sent.toString()) as { kv_transfer_params: object; max_tokens: number };
      t.match(decoded.kv_transfer_params, { do_remote_prefill: true, remote_engine_id: String });
      t.equal(decoded.max_tokens, 4, "the decode leg keeps the client's limit");
    }
    t.equal(
      prefill.reduce((sum, engine) => sum + engine.facts().prefillLegs, 0),
      2,
    );
    await client.close();
    await stop();
  },
);

t.test("refusals come as OpenAI-shaped JSON and the router stays up", async (t) => {
  const { router, stop } = await rig({ "router.maxBodyBytes": "100000" });
  const client = new ProcessClient(router.address);
  const table: [string, Buffer, [string, string][], number][] = [
    ["not JSON", Buffer.from("hello"), [], 400],
    ["no model", chat({ model: undefined }), [], 400],
    ["unknown model", chat({ model: "nobody" }), [], 404],
    ["body cut off", chat().subarray(0, 100), [], 400],
    ["negative max_tokens", chat({ max_tokens: -5 }), [], 400],
    ["too large", Buffer.alloc(200_000, 0x20), [], 413],
    ["announced too large", chat(), [["content-length", "900000"]], 413],
    ["encoded", chat(), [["content-encoding", "gzip"]], 415],
  ];
  for (const mode of ["FULL_DUPLEX_STREAMED", "BUFFERED"] as const)
    for (const [name, body, more, status] of table) {
      const reply = (await exchange(client, mode, body, more)).at(-1)!;
      t.equal(reply.kind, "immediate", `${mode} ${name}`);
      t.equal(reply.status, status, `${mode} ${name}`);
      const { error } = JSON.parse(reply.body!.toString()) as { error: { message: string; type: string } };
      t.ok(error.message.length > 5 && error.type.endsWith("_error"), `${mode} ${name}`);
    }
  t.ok(
    (await exchange(client, "BUFFERED", chat())).some(({ destination }) => destination !== undefined),
    "serves afterwards",
  );
  await client.close();
  await stop();
});

t.test("a broken peer ends its own stream only", async (t) => {
  const { router, stop } = await rig();
  const client = new ProcessClient(router.address);
  const bad: [string, Buffer][] = [
    ["body before headers", encodeBody("requestBody", chat(), true)],
    ["trailers first", encodeTrailers("requestTrailers")],
    ["no message", Buffer.from([0xff, 0xff, 0xff])],
    ["empty request", Buffer.alloc(0)],
  ];
  for (const [name, bytes] of bad) {
    const stream = client.open();
    stream.send(bytes);
    t.equal(await stream.next(), undefined, name);
    t.equal(stream.status, "3", `${name}: INVALID_ARGUMENT`);
  }
  const gone = client.open();
  gone.send(encodeHeaders("requestHeaders", headers(), false, { request: "FULL_DUPLEX_STREAMED", response: "NONE" }));
  gone.reset();
  t.ok(
    (await exchange(client, "BUFFERED", chat())).some(({ destination }) => destination !== undefined),
    "serves afterwards",
  );
  await client.close();
  await stop();
});

const post = async (
  url: string,
  body: Buffer,
): Promise<{ status: number; headers: Headers; json: Record<string, unknown> }> => {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  return {
    status: response.status,
    headers: response.headers,
    json: (await response.json()) as Record<string, unknown>,
  };
};

t.test("200 concurrent chats over two pairs: no error, each with both legs on its roles", async (t) => {
  const { router, prefill, decode, stop } = await rig();
  const gateway = await startGateway(router.address);
  const bodies = Array.from({ length: 200 }, (_, i) =>
    chat({ messages: [{ role: "user", content: words(300, String(i)) }] }),
  );
  const answers = await Promise.all(bodies.map((body) => post(gateway.url, body)));
  t.same(new Set(answers.map(({ status }) => status)), new Set([200]));
  const isOf = (engines: RunningEngine[], address: string | null): boolean =>
    engines.some((engine) => engine.address === address);
  t.ok(
    answers.every(({ headers }) => isOf(prefill, headers.get(HEADER.prefillEndpoint))),
    "prefill legs on prefill engines",
  );
  t.ok(
    answers.every(({ headers }) => isOf(decode, headers.get(HEADER.decodeEndpoint))),
    "decode legs on decode engines",
  );
  const total = (engines: RunningEngine[], of: (facts: ReturnType<RunningEngine["facts"]>) => number): number =>
    engines.reduce((sum, engine) => sum + of(engine.facts()), 0);
  t.equal(
    total(prefill, (facts) => facts.prefillLegs),
    200,
  );
  t.equal(
    total(decode, (facts) => facts.decodeLegsRemote),
    200,
    "every decode leg took its blocks from a prefill engine",
  );
  t.equal(
    total(decode, (facts) => facts.decodeLegsLocal),
    0,
  );
  await gateway.stop();
  await stop();
});

t.test("a prefill engine that dies during the run is not seen by any client", async (t) => {
  const { router, prefill, decode, stop } = await rig();
  const gateway = await startGateway(router.address);
  const send = (i: number): Promise<{ status: number }> =>
    post(gateway.url, chat({ messages: [{ role: "user", content: words(300, String(i)) }] }));
  const first = Array.from({ length: 60 }, (_, i) => send(i));
  await prefill[0]!.stop();
  const second = Array.from({ length: 60 }, (_, i) => send(100 + i));
  const answers = await Promise.all([...first, ...second]);
  t.same(new Set(answers.map(({ status }) => status)), new Set([200]));
  t.ok(decode.every((engine) => engine.facts().running === 0));
  await gateway.stop();
  await stop();
});

t.test("with every prefill engine gone, decode engines prefill by themselves", async (t) => {
  const { router, prefill, decode, stop } = await rig();
  const gateway = await startGateway(router.address);
  await Promise.all(prefill.map((engine) => engine.stop()));
  const answer = await post(gateway.url, chat());
  t.equal(answer.status, 200);
  t.equal(answer.headers.get(HEADER.reason), "LocalPrefill");
  t.equal(
    decode.reduce((sum, engine) => sum + engine.facts().decodeLegsLocal, 0),
    1,
  );
  await gateway.stop();
  await stop();
});

t.test("a next turn goes where its blocks are, and the prediction matches the engine", async (t) => {
  const { router, stop } = await rig();
  await router.scraper.pollNow();
  const gateway = await startGateway(router.address);
  const turn = (text: string): { role: string; content: string } => ({ role: "user", content: words(400, text) });
  const first = await post(gateway.url, chat({ messages: [turn("a")] }));
  const second = await post(gateway.url, chat({ messages: [turn("a"), turn("b")] }));
  t.equal(second.headers.get(HEADER.prefillEndpoint), first.headers.get(HEADER.prefillEndpoint));
  const [predicted, actual] = [HEADER.predictedCachedTokens, HEADER.cachedTokens].map((name) =>
    Number(second.headers.get(name)),
  );
  t.ok(
    predicted! > 300 && actual! > 300 && Math.abs(predicted! - actual!) < 150,
    `predicted ${predicted}, actual ${actual}`,
  );
  const models = (await (await fetch(`${gateway.url}/v1/models`)).json()) as { data: { id: string }[] };
  t.same(
    models.data.map(({ id }) => id),
    [MODEL],
  );
  await gateway.stop();
  await stop();
});
