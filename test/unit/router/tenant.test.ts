/** Tenants: same tenant, same cache; another tenant, another cache, whatever a client writes. */
import t from "tap";
import type { Forward } from "../../../src/router/exchange.ts";
import type { HeaderList } from "../../../src/router/headers.ts";
import { Routing, header } from "../../support/routing.ts";

const KEY = Buffer.alloc(32, 7);
const JSON_TYPE: HeaderList = [["content-type", "application/json"]];
const BODY = { model: "m", messages: [{ role: "user", content: "word ".repeat(1000) }] };
const as = (tenant: string): HeaderList => [...JSON_TYPE, ["x-tenant", tenant]];

const routing = (more: object = {}): Routing =>
  new Routing({
    router: { tenant: { header: "x-tenant", ...more } },
    endpoints: { "127.0.0.1:1": { model: "m" } },
    saltKey: KEY,
  });

const hits = ({ responseHeaders }: Forward): number =>
  Number(header(responseHeaders, "x-tandem-predicted-cached-tokens"));
const saltOf = ({ body }: Forward): string => (JSON.parse(body.toString()) as { cache_salt: string }).cache_salt;

t.test("the same tenant hits, another never does", async (t) => {
  const world = routing();
  const first = await world.forward({ headers: as("a"), body: BODY });
  const again = await world.forward({ headers: as("a"), body: BODY });
  const other = await world.forward({ headers: as("b"), body: BODY });
  const nobody = await world.forward({ headers: JSON_TYPE, body: BODY });
  t.equal(hits(first), 0);
  t.ok(hits(again) > 1000);
  t.same([hits(other), hits(nobody)], [0, 0]);
  t.equal(saltOf(first), saltOf(again));
  t.equal(new Set([first, other, nobody].map(saltOf)).size, 3);
});

t.test("a salt of the client's own separates within its tenant, and reaches no other", async (t) => {
  const world = routing();
  const a = await world.forward({ headers: as("a"), body: BODY });
  const mine = { ...BODY, cache_salt: "mine" };
  const own = await world.forward({ headers: as("a"), body: mine });
  t.ok(hits(await world.forward({ headers: as("a"), body: mine })) > 1000, "the same salt again");
  const forged = await world.forward({ headers: as("b"), body: { ...BODY, cache_salt: saltOf(a) } });
  const copied = await world.forward({ headers: as("b"), body: mine });
  t.same([own, forged, copied].map(hits), [0, 0, 0]);
  t.equal(new Set([a, own, forged, copied].map(saltOf)).size, 4);
  for (const { body } of [own, copied]) t.notMatch(body.toString(), /mine/);
});

t.test("the salt is written into both legs, and nothing else is changed", async (t) => {
  const asked: string[] = [];
  const world = new Routing({
    router: { tenant: { header: "x-tenant" }, prefill: { policy: "always" } },
    endpoints: { "127.0.0.1:1": { role: "prefill", model: "m" }, "127.0.0.1:2": { role: "decode", model: "m" } },
    saltKey: KEY,
    engine: ({ body = Buffer.alloc(0) }) => {
      asked.push(Buffer.from(body).toString());
      return { kind: "answer", status: 200, headers: {}, body: Buffer.from('{"kv_transfer_params":{"x":1}}') };
    },
  });
  const text = `{ "model":"m", "seed":12345678901234567890,"cache_salt" : "mine","messages":[{"role":"user","content":"\\u00e9"}] }`;
  const { body } = await world.forward({ headers: as("a"), body: Buffer.from(text) });
  const salt = (JSON.parse(body.toString()) as { cache_salt: string }).cache_salt;
  t.equal(body.toString(), text.replace("mine", salt).replace("] }", '],"kv_transfer_params":{"x":1} }'));
  t.equal((JSON.parse(asked[0] ?? "{}") as { cache_salt: string }).cache_salt, salt);
});

t.test("without a key the client's salt stands, and still separates in the index", async (t) => {
  const world = new Routing({ endpoints: { "127.0.0.1:1": { model: "m" } } });
  const salted = { ...BODY, cache_salt: "s" };
  await world.forward({ body: BODY });
  const first = await world.forward({ body: salted });
  t.equal(hits(first), 0);
  t.equal(saltOf(first), "s");
  t.ok(hits(await world.forward({ body: salted })) > 1000);
});

t.test("with a key, what engines take no salt for is refused, unless it is let go", async (t) => {
  const path = "/v1/messages";
  const body = { ...BODY, max_tokens: 5 };
  const refused = await routing().route({ path, headers: as("a"), body });
  t.match(refused, { kind: "answer", status: 404, reason: "TenantUnsalted" });
  t.match(JSON.parse((refused as { body: Buffer }).body.toString()), {
    type: "error",
    error: { type: "not_found_error" },
  });
  const routed = await routing({ unsalted: "route" }).forward({ path, headers: as("a"), body });
  t.notMatch(routed.body.toString(), /cache_salt/);
  const counted = await routing().route({ path: "/v1/messages/count_tokens", headers: as("a"), body });
  t.match(counted, { kind: "forward" }, "nothing is computed");
});

t.test("whose a request is: header, path, neither", async (t) => {
  const twice: HeaderList = [...as("a"), ["x-tenant", "b"]];
  t.match(await routing().route({ headers: twice, body: BODY }), { status: 400, reason: "TenantAmbiguous" });
  t.match(await routing().route({ headers: as("x".repeat(257)), body: BODY }), { status: 400 });
  const world = routing({ header: "", pathPrefix: "/tenants/" });
  const path = (tenant: string): string => `/tenants/${tenant}/v1/chat/completions?x=1`;
  const first = await world.forward({ path: path("a"), body: BODY });
  t.equal(header(first.requestHeaders, ":path"), "/v1/chat/completions?x=1");
  t.ok(hits(await world.forward({ path: path("a"), body: BODY })) > 1000);
  t.equal(hits(await world.forward({ path: path("b"), body: BODY })), 0);
  t.equal(hits(await world.forward({ path: "/v1/chat/completions", body: BODY })), 0);
  t.match(await world.route({ path: "/tenants//v1/chat/completions", body: BODY }), { status: 404 });
});
