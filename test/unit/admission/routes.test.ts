import { request } from "node:http";
import fastify, { type FastifyInstance } from "fastify";
import t from "tap";
import { readBody } from "../../../src/admission/body.ts";
import { admissionRoutes } from "../../../src/admission/routes.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import type { Metrics } from "../../../src/ports.ts";

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const log = { ...silent, with: () => log };

async function server(
  counts: string[] = [],
  most = 65536,
  observe: () => void = () => undefined,
): Promise<FastifyInstance> {
  const metrics: Metrics = {
    count: (name, labels) => void counts.push(`${name} ${JSON.stringify(labels)}`),
    gauge: () => undefined,
    observe,
  };
  const { admission } = loadConfig({ flags: { "admission.maxBodyBytes": String(most) } });
  const app = fastify();
  await app.register(
    admissionRoutes({
      settings: admission,
      snapshot: () => EMPTY_SNAPSHOT,
      clock: { now: () => 0, monotonic: () => 0 },
      metrics,
      log,
    }),
  );
  return app;
}

const post = async (
  app: FastifyInstance,
  payload: string,
  type = "application/json",
): Promise<{ code: number; text: string }> => {
  const reply = await app.inject({
    method: "POST",
    url: "/admission/mutate",
    payload,
    headers: { "content-type": type },
  });
  return { code: reply.statusCode, text: reply.body };
};

const review = (object: string): string =>
  `{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE","kind":{"kind":"Deployment"},"object":${object}}}`;

t.test("a review is answered and counted", async (t) => {
  const counts: string[] = [];
  const app = await server(counts);
  const { code, text } = await post(app, review('{"kind":"Deployment","metadata":{"name":"w"}}'));
  t.equal(code, 200);
  t.same(JSON.parse(text), {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: { uid: "u", allowed: true },
  });
  t.same(counts, [
    'tandem_admission_requests_total {"webhook":"mutate","kind":"Deployment","outcome":"allowed"}',
    'tandem_admission_verdicts_total {"outcome":"skipped","reason":"NotOurs"}',
  ]);
  await app.close();
});

t.test("what comes in is bounded", async (t) => {
  const app = await server();
  const cases: [name: string, payload: string, type: string, code: number][] = [
    ["not JSON", "{", "application/json", 400],
    ["empty", "", "application/json", 400],
    ["nested deeper than any object", "[".repeat(50000), "application/json", 400],
    ["deep within a review", review("[".repeat(65) + "]".repeat(65)), "application/json", 400],
    ["brackets within strings are no depth", review(`"${"[".repeat(500)}\\""`), "application/json", 200],
    ["another media type", review("{}"), "text/plain", 415],
  ];
  for (const [name, payload, type, code] of cases) t.equal((await post(app, payload, type)).code, code, name);
  await app.close();
});

t.test("keys that reach prototypes change nothing", async (t) => {
  const app = await server();
  const labels = '"labels":{"tandem.sh/model":"m","tandem.sh/role":"prefill","constructor":"x"}';
  const template = '{"metadata":{"__proto__":{"polluted":"1"}},"spec":{"containers":[{"name":"e","image":"vllm/x"}]}}';
  const { code, text } = await post(
    app,
    review(`{"kind":"Deployment","metadata":{"name":"w",${labels}},"spec":{"template":${template}}}`),
  );
  t.equal(code, 200);
  t.match(text, /"allowed":true/);
  t.equal(({} as Record<string, unknown>)["polluted"], undefined);
  await app.close();
});

/** A call whose body stays open: what is announced is held, however little of it comes. */
function announce(port: number, length: number | undefined): { answer: Promise<number>; abort: () => void } {
  const headers = { "content-type": "application/json", ...(length === undefined ? {} : { "content-length": length }) };
  const call = request({ host: "127.0.0.1", port, path: "/admission/mutate", method: "POST", headers, agent: false });
  const answer = new Promise<number>((resolve) => {
    call.once("response", (response) => resolve(response.resume().statusCode ?? 0)).once("error", () => resolve(0));
  });
  call.write("{");
  return { answer, abort: () => call.destroy() };
}

t.test("above the bytes in flight: 503 before the body has come; what is aborted is given back", async (t) => {
  const app = await server();
  const port = Number(new URL(await app.listen({ host: "127.0.0.1", port: 0 })).port);
  // 256 of the largest bodies of this server make 16 MiB; a body of no announced length counts as one of them.
  const held = Array.from({ length: 256 }, (_, index) => announce(port, index % 2 === 0 ? 65536 : undefined));
  let refused: number;
  do {
    const more = announce(port, 65536);
    refused = await Promise.race([more.answer, new Promise<number>((resolve) => setTimeout(resolve, 100, 0))]);
    held.push(more);
  } while (refused === 0);
  t.equal(refused, 503);
  t.equal(await announce(port, 1).answer, 503, "however small");
  t.equal(await announce(port, 65537).answer, 413, "what is never taken is told apart");
  t.equal(await announce(port, undefined).answer, 503, "or none");
  for (const { abort } of held) abort();
  let code: number;
  do ({ code } = await call(port, review("{}")));
  while (code === 503);
  t.equal(code, 200, "the server lives, and takes reviews again");
  t.equal((await call(port, review(`"${"x".repeat(70000)}"`))).code, 413);
  t.equal((await call(port, review(`"${"x".repeat(70000)}"`), true)).code, 413, "without a length");
  await app.close();
});

const call = async (port: number, body: string, chunked = false): Promise<{ code: number }> => {
  const headers = { "content-type": "application/json" };
  const stream = chunked ? { body: new Blob([body]).stream(), duplex: "half" as const } : { body };
  const answer = await fetch(`http://127.0.0.1:${port}/admission/mutate`, { method: "POST", headers, ...stream });
  await answer.text();
  return { code: answer.status };
};

t.test("more objects than any review holds are not parsed", (t) => {
  const { admission } = loadConfig({});
  t.equal(admission.maxBodyBytes, 7340032);
  t.not(readBody(Buffer.from(`[${"{},".repeat(500_000)}{}]`)), undefined);
  t.equal(readBody(Buffer.from(`[${"{},".repeat(530_000)}{}]`)), undefined);
  t.end();
});

t.test("bytes in flight are given back after every answer", async (t) => {
  const app = await server();
  const large = review(`"${"x".repeat(60000)}"`);
  for (let index = 0; index < 1200; index++) {
    const { code } = await post(app, large);
    if (code !== 200) t.fail(`request ${index} was answered ${code}`);
  }
  t.pass("1200 times 60 kB is above the bound of 16 MiB");
  await app.close();
});

/** Sends a whole review and leaves before it is answered. */
const leave = (port: number, body: string): Promise<void> =>
  new Promise((resolve) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const call = request({ host: "127.0.0.1", port, path: "/admission/mutate", method: "POST", headers, agent: false });
    call.once("error", () => resolve()).once("close", () => resolve());
    call.end(body, () => call.destroy());
  });

t.test("bytes in flight are given back where the caller left before his answer", async (t) => {
  const app = await server([], 131072);
  const port = Number(new URL(await app.listen({ host: "127.0.0.1", port: 0 })).port);
  const body = review(`"${"x".repeat(100_000)}"`);
  for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 20 }, () => leave(port, body)));
  t.equal((await call(port, body)).code, 200, "200 times 100 kB is above the bound of 16 MiB");
  await app.close();
});

t.test(
  "of large reviews one is answered in a turn of the event loop, of small ones as many as there are",
  async (t) => {
    for (const [length, most] of [
      [100_000, 1],
      [100, 8],
    ] as const) {
      const turns = await turnsOf(review(`"${"x".repeat(length)}"`), 8);
      t.equal(Math.max(...turns.values()), most, `${length} bytes`);
    }
  },
);

/** How many of `calls` simultaneous reviews were answered in each turn of the event loop. */
async function turnsOf(body: string, calls: number): Promise<ReadonlyMap<number, number>> {
  let turn = 0;
  let over = false;
  const answered = new Map<number, number>();
  const tick = (): void => {
    turn++;
    if (!over) setImmediate(tick);
  };
  const app = await server([], 131072, () => answered.set(turn, (answered.get(turn) ?? 0) + 1));
  await app.ready();
  setImmediate(tick);
  const headers = { "content-type": "application/json" };
  const post = { method: "POST", url: "/admission/mutate", payload: body, headers } as const;
  await Promise.all(Array.from({ length: calls }, () => app.inject(post)));
  over = true;
  await app.close();
  return answered;
}
