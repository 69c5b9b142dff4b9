/** Why a request went where it went: from the pick of a running router, by way of its admin address, to people. */
import t, { type Test } from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { HEADER } from "../../src/kinds/names.ts";
import type { PickRecord } from "../../src/router/explain/record.ts";
import type { PrefillTerms } from "../../src/router/pick/terms.ts";
import { startEngine } from "../../src/simulator/engine/server.ts";
import { startGateway } from "../../src/simulator/gateway/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { json, startPageServer } from "../../src/telemetry/server.ts";
import { tandem } from "../support/command.ts";
import { engineOptions } from "../support/engines.ts";

t.setTimeout(300_000);
const MODEL = "qwen3-32b";

async function world(t: Test, router: object = {}) {
  const ports = createPorts(loadConfig(), SILENT_LOG);
  const roles = ["prefill", "prefill", "decode", "decode"] as const;
  const engines = await Promise.all(roles.map((role) => startEngine(engineOptions({ role, models: [MODEL] }), ports)));
  const entries = engines.map(({ address }, index) => ({ address, role: roles[index], model: MODEL }));
  const own = { listen: "127.0.0.1:0", healthListen: "", explainHeaders: true, ...router };
  const config = loadConfig({ text: JSON.stringify({ router: { ...own, endpoints: { static: entries } } }) });
  const endpoints = staticEndpoints(config.router.endpoints.static);
  const role = await startRouterRole({ ...ports, config }, { endpoints: () => endpoints, synced: () => true });
  const gateway = await startGateway(role.address);
  const pages = await startPageServer({ host: "127.0.0.1", port: 0 }, role.pages ?? {});
  t.teardown(async () => {
    await Promise.all([gateway.stop(), pages.stop()]);
    await role.stop();
    await Promise.all(engines.map((engine) => engine.stop()));
  });
  const post = async (id: string, content: string): Promise<Response> =>
    fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": id },
      body: JSON.stringify({ model: MODEL, max_tokens: 4, messages: [{ role: "user", content }] }),
    });
  return { post, url: `http://${pages.address}` };
}

const words = "the quick brown fox ".repeat(400);
const sumOf = (terms: PrefillTerms): number =>
  Object.values({ ...terms, costMs: 0 }).reduce((sum, each) => sum + each, 0);

t.test("a pick can be asked for, before and after", async (t) => {
  const { post, url } = await world(t, { prefill: { policy: "always" } });
  await (await post("first", words)).text();
  const second = await post("second", words);
  await second.text();
  t.match(second.headers.get(HEADER.cost), /^total=[\d.]+;decode=[\d.]+;room=[\d.]+;transfer=[\d.]+;queue=[\d.]+;own=/);
  const shown = await tandem(["explain", "request", "--url", url, "-o", "json", "second"]);
  t.equal(shown.code, 0, shown.err);
  const record = JSON.parse(shown.out) as PickRecord;
  t.match(record, {
    model: MODEL,
    reason: "Picked",
    tokens: "estimate",
    terms: { candidates: { decode: 2, prefill: 2 } },
  });
  t.ok(record.id.startsWith("second-"));
  t.ok(record.expected.cachedTokens > 1000, `${record.expected.cachedTokens} expected`);
  t.ok((record.outcome.cachedTokens ?? 0) > 1000, `${record.outcome.cachedTokens} came`);
  const { decode, prefill } = record.terms;
  t.equal(decode.filter(({ chosen }) => chosen).length, 1);
  t.equal(prefill.find(({ chosen }) => chosen)?.endpoint.name, record.prefill);
  for (const terms of [...prefill.map((row) => row.prefill), ...decode.map((row) => row.local)])
    t.ok(Math.abs(sumOf(terms) - terms.costMs) < 1e-6, "terms add up");
  const costs = decode.map(({ costMs }) => costMs);
  t.same(
    costs,
    costs.toSorted((a, b) => a - b),
    "cheapest first",
  );
  t.match(
    second.headers.get(HEADER.cost),
    `total=${Number(decode.find(({ chosen }) => chosen)?.costMs.toPrecision(4))}`,
  );
});

t.test("the header's terms are those of the way to prefill that was taken", async (t) => {
  const { post } = await world(t);
  for (const content of ["hi", words]) {
    const answer = await post("one", content);
    await answer.text();
    t.equal(answer.headers.get(HEADER.reason), content === words ? "Picked" : "LocalPrefill");
    const terms = (answer.headers.get(HEADER.cost) ?? "").split(";").map((term) => Number(term.split("=")[1]));
    const [total = 0, ...parts] = terms;
    const sum = parts.reduce((all, each) => all + each, 0);
    t.ok(Math.abs(sum - total) <= total / 500, `${sum} of ${total}`);
  }
});

t.test("as people read it", async (t) => {
  const { post, url } = await world(t);
  await (await post("first", words)).text();
  const list = await tandem(["explain", "request", "--url", url]);
  t.match(list.out, /^REQUEST +MODEL .*\nfirst-\S+ +qwen3-32b .* 0 -> 0 /);
  const one = await tandem(["explain", "request", "--url", url, "first"]);
  t.match(one.out, /Picked: prefill on .*, decode on /);
  t.match(one.out, /cached tokens +0 \(history\) +0\n/);
  t.match(one.out, /\nDECODE +CACHED .*QUEUE +OWN/);
  t.match(one.out, /\n\* 127\.0\.0\.1:\d+ /);
  t.match(one.out, /\nPREFILL +CACHED/);
  const gone = await tandem(["explain", "request", "--url", url, "nobody"]);
  t.same([gone.code, gone.out], [1, ""]);
  t.match(gone.err, /not among the picks that this replica keeps/);
  const nowhere = await tandem(["explain", "request", "--url", "http://127.0.0.1:9"]);
  t.equal(nowhere.code, 1);
  t.match(nowhere.err, /http:\/\/127\.0\.0\.1:9 does not answer/);
  t.equal((await tandem(["explain", "request", "--url", "ftp://x"])).code, 2);
  t.equal((await tandem(["explain", "request", "-o", "yaml"])).code, 2);
});

t.test("a terminal is not told what to do by the name of a model", async (t) => {
  const { post, url } = await world(t);
  await (await post("first", words)).text();
  const kept = (await (await fetch(`${url}/debug/requests`)).json()) as { requests: PickRecord[] };
  const requests = kept.requests.map((record) => ({ ...record, model: "m\u001b[2J\u202e" }));
  const pages = await startPageServer(
    { host: "127.0.0.1", port: 0 },
    { "/debug/requests": () => json(200, { requests }) },
  );
  t.teardown(() => pages.stop());
  const { out } = await tandem(["explain", "request", "--url", `http://${pages.address}`]);
  t.match(out, /m\?\[2J\?/);
  t.notMatch(out, /[^\P{C}\n]/u);
});

t.test("bounded, and off", async (t) => {
  const { post, url } = await world(t, { explain: { keep: 2 } });
  for (const id of ["a", "b", "c"]) await (await post(id, "hi")).text();
  const kept = (await (await fetch(`${url}/debug/requests`)).json()) as { requests: PickRecord[] };
  t.same(
    kept.requests.map(({ id }) => id.slice(0, 2)),
    ["c-", "b-"],
  );
  t.same(
    kept.requests.map(({ terms }) => terms),
    [undefined, undefined],
  );
  const off = await world(t, { explain: { keep: 0 } });
  t.equal((await fetch(`${off.url}/debug/requests`)).status, 404);
  t.equal((await fetch(`${off.url}/debug/requests/x`)).status, 404);
});
