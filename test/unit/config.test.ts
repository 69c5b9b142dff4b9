import t from "tap";
import { readFileSync } from "node:fs";
import { ConfigError, loadConfig } from "../../src/config/load.ts";
import { configReference } from "../../src/config/reference.ts";

const problems = (text: string, more: object = {}): readonly string[] => {
  try {
    loadConfig({ text, name: "tandem.yaml", ...more });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
};

t.test("an empty file gives the defaults, frozen", (t) => {
  const config = loadConfig();
  t.equal(config.router.listen, "127.0.0.1:9002");
  t.equal(config.admission.target, "split");
  t.ok(Object.isFrozen(config.router.cost));
  t.end();
});

t.test("flags win over the environment, the environment over the file", (t) => {
  const text = "router: { listen: '127.0.0.1:1', scrapeIntervalMs: 300 }\nlog: { level: warn }";
  const environment = { TANDEM_ROUTER_LISTEN: "127.0.0.1:2", TANDEM_ADMISSION_DEFAULT_PROFILE: "mindcluster-910" };
  const config = loadConfig({ text, environment, flags: { "router.listen": "127.0.0.1:3" } });
  t.equal(config.router.listen, "127.0.0.1:3");
  t.equal(config.router.scrapeIntervalMs, 300);
  t.equal(config.admission.defaultProfile, "mindcluster-910");
  t.equal(config.log.level, "warn");
  t.end();
});

t.test("entries of a list get their defaults", (t) => {
  const config = loadConfig({
    text: "router: { endpoints: { static: [{ address: '127.0.0.1:8101', role: prefill, model: m }] } }",
  });
  t.match(config.router.endpoints.static[0], { role: "prefill", connector: "nixl", cell: "0", served: [] });
  t.end();
});

t.test("errors name the path, the value and what is accepted", (t) => {
  const table: [string, RegExp][] = [
    [
      "admission: { target: workload }",
      /^tandem.yaml: admission.target: "workload" is not accepted; give one of split, pod$/,
    ],
    ["router: { lisen: x }", /router.lisen: unknown key, did you mean listen\?; accepted: listen, /],
    ["router: { cost: { mu: -1 } }", /router.cost.mu: -1 is not accepted; give a number from 0 to 100/],
    ["router: { listen: nowhere }", /router.listen: "nowhere" is not accepted; give host:port, or empty for off/],
    [
      "router: { endpoints: { static: [{ address: x, role: prefil, model: m }] } }",
      /router.endpoints.static.0.role: "prefil" is not accepted; give one of prefill, decode, both/,
    ],
    ["- 1", /must be a mapping with cluster, admission/],
    ["a: [", /not YAML: .*line 1/s],
    ["log: { level: 3 }\nqq: 1", /qq: unknown key/],
  ];
  for (const [text, wanted] of table) t.match(problems(text).join("\n"), wanted, text);
  t.match(
    problems("", { flags: { "router.lisen": "1" } })[0],
    /--set router.lisen: unknown key, did you mean router.listen\?/,
  );
  t.match(problems("", { environment: { TANDEM_ROUTER_COST_MU: "many" } })[0], /router.cost.mu: "many"/);
  t.end();
});

t.test("the reference page is the schema's", (t) => {
  const page = readFileSync(new URL("../../docs/reference/configuration.md", import.meta.url), "utf8");
  t.equal(page, configReference(), "run npm run docs");
  t.end();
});
