/**
 * The plain Envoy configurations as they are shipped, on real Envoys, with the real router behind them: picks are
 * followed, nothing that a client sends chooses an upstream, and without a router each does what its file says.
 */
import t, { type Test as Tap } from "tap";
import { forgeries } from "../support/forged.ts";
import { ENVOY_VERSIONS } from "./cluster/envoy-binary.ts";
import { ENVOY_PROFILES, type EnvoyProfile } from "./cluster/envoy.ts";
import { FAILING_ROUTERS } from "./cluster/failing-router.ts";
import { harm, sendAll, servedBy, startPool, type Pool, type PoolOptions } from "./cluster/pool.ts";

t.setTimeout(300_000);
/** Of 81,600 forms; prime to the lengths of all tables. */
const EVERY = 563;

const begun = async (t: Tap, options: PoolOptions): Promise<Pool> => {
  const pool = await startPool(options);
  t.teardown(() => pool.stop());
  return pool;
};

const ask = (pool: Pool): Promise<Response> =>
  fetch(`${pool.envoy.url}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ model: "m", prompt: "hello", max_tokens: 1 }),
    headers: { "content-type": "application/json" },
  });

const few = (pool: Pool): ReturnType<typeof sample> => sample(pool.stranger.address, EVERY);
const sample = (address: string, every: number) => [...forgeries(address)].filter((_, index) => index % every === 0);

for (const version of ENVOY_VERSIONS)
  for (const profile of ENVOY_PROFILES)
    t.test(
      `Envoy (${version}, ${profile}): clients choose nothing, with and without the removal of headers`,
      async (t) => {
        for (const believing of [false, true]) {
          const pool = await begun(t, { version, profile, believing });
          for (let index = 0; index < 6; index += 1) t.equal((await ask(pool)).status, 200);
          t.ok((await pool.envoy.stat("cluster.tandem_router.health_check.success")) > 0, "the router is checked");
          t.equal(await pool.envoy.stat("cluster.tandem_router.health_check.failure"), 0, "and found well");
          t.ok(
            pool.decode.every(({ arrived }) => arrived.length > 0),
            "picks are followed: both engines serve",
          );
          const statuses = await sendAll(pool.envoy.url, few(pool));
          t.ok((statuses["200"] ?? 0) > 20 && (statuses["404"] ?? 0) > 20, JSON.stringify(statuses));
          const { survived, strayed } = harm(pool);
          t.equal(strayed, 0, "nothing reached a stranger, or a prefill engine");
          const own = survived.filter((name) => !believing || !name.startsWith("x-envoy-"));
          t.same(own, [], believing ? "the router removes what it must alone" : "nothing is left of what was forged");
        }
      },
    );

/** What each file says of a router that does not answer. */
const CLOSED: Readonly<Record<EnvoyProfile, boolean>> = {
  ...{ light: true, exact: true, "original-dst": true, "fail-open": false },
};

for (const version of ENVOY_VERSIONS)
  for (const profile of ENVOY_PROFILES)
    for (const failing of ["absent", "fails", "ends"])
      t.test(`Envoy (${version}, ${profile}) with a router that is ${failing}`, async (t) => {
        const instead = await FAILING_ROUTERS[failing]!();
        t.teardown(() => instead.stop());
        const pool = await begun(t, { version, profile, instead: instead.address });
        const { status } = await ask(pool);
        // A stream that ends well says "go on": the only way that leads past a closed filter, and only to decode engines.
        if (failing !== "ends") t.equal(status, CLOSED[profile] ? 503 : 200);
        await sendAll(pool.envoy.url, few(pool));
        if (failing !== "ends" && CLOSED[profile]) t.equal(servedBy(pool), 0, "closed: no engine was asked");
        t.same(harm(pool), { survived: [], strayed: 0 }, "the pool of decode engines, or nobody");
      });
