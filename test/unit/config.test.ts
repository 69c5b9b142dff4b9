import t from "tap";
import { readFileSync } from "node:fs";
import { ConfigError, configKeys, loadConfig } from "../../src/config/load.ts";
import { settingsProblems } from "../../src/admission/settings.ts";
import { ENGINE_ENV } from "../../src/kinds/names.ts";
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
    ["topology: { preset: volcanoo }", /topology.preset: "volcanoo" is not accepted; give one of empty, volcano, /],
    ["router: { listen: nowhere }", /router.listen: "nowhere" is not accepted; give host:port, or empty for off/],
    [
      "router: { endpoints: { static: [{ address: x, role: prefil, model: m }] } }",
      /router.endpoints.static.0.role: "prefil" is not accepted; give one of prefill, decode, both/,
    ],
    ["- 1", /must be a mapping with cluster, admission/],
    ["router: { listen: '127.0.0.1:65536' }", /router.listen: .* is not accepted; give host:port/],
    ["admission: { sharedMemory: lots }", /sharedMemory: "lots" is not accepted; give a Kubernetes quantity/],
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

t.test("aliases that multiply or contain themselves, and what the file has twice, are named errors", (t) => {
  const levels = ["a: &a [x,x,x,x,x,x,x,x,x,x]"];
  for (const [one, next] of ["a b", "b c", "c d", "d e", "e f", "f g"].map((pair) => pair.split(" ")))
    levels.push(`${next}: &${next} [${Array(10).fill(`*${one}`).join(",")}]`);
  t.match(problems(levels.join("\n")), [/aliases are not accepted here: Excessive alias count/]);
  t.match(problems("log: &a { level: *a }"), [/aliases are not accepted here/]);
  t.match(problems("log: { level: info }\nlog: { level: warn }"), [/Map keys must be unique/]);
  t.match(problems("router: { __proto__: { x: 1 } }"), [/router.__proto__: unknown key/]);
  t.match(problems("router: { constructor: 1 }"), [/router.constructor: unknown key/]);
  t.match(problems("router: { cost: { mu: .inf } }"), [/router.cost.mu: "Infinity" is not accepted/]);
  t.equal(({} as Record<string, unknown>)["x"], undefined);
  t.end();
});

t.test("a section without keys changes nothing", (t) => {
  t.equal(loadConfig({ text: "router:\nlog:\n" }).log.level, "info");
  t.match(problems("log: { level: }"), [/log.level: null is not accepted/]);
  t.end();
});

t.test("what Kubernetes sets for Services is no configuration, and no two keys share a name", (t) => {
  const environment = Object.fromEntries(
    ["TANDEM_ROUTER", "TANDEM_WEBHOOK", "TANDEM_CONTROLLER", "TANDEM_ADMIN", "TANDEM_METRICS"].flatMap((name) => [
      [`${name}_SERVICE_HOST`, "192.0.2.1"],
      [`${name}_SERVICE_PORT`, "9002"],
      [`${name}_PORT`, "tcp://192.0.2.1:9002"],
      [`${name}_PORT_9002_TCP`, "tcp://192.0.2.1:9002"],
    ]),
  );
  t.same(loadConfig({ environment }), loadConfig());
  const names = configKeys().map((key) => key.environment);
  t.equal(new Set(names).size, names.length);
  t.same(
    names.filter((name) => /_(PORT|HOST)(_|$)/.test(name)),
    [],
    "a name that a Service may set",
  );
  t.end();
});

t.test("a misspelt variable is an error, one of somebody else's is not", (t) => {
  const told = (name: string): string => problems("", { environment: { [name]: "1" } }).join();
  t.equal(told("TANDEM_ROUTER_LISEN"), "TANDEM_ROUTER_LISEN: unknown variable, did you mean TANDEM_ROUTER_LISTEN?");
  t.equal(told("TANDEM_LOGLEVEL"), "TANDEM_LOGLEVEL: unknown variable, did you mean TANDEM_LOG_LEVEL?");
  t.equal(told("TANDEM_ADMISSION_WHATEVER_IT_IS"), "TANDEM_ADMISSION_WHATEVER_IT_IS: unknown variable");
  for (const name of ["TANDEM_HOME", "TANDEM_BIKE_SHOP", "tandem_router_lisen", "MY_TANDEM_ROUTER_LISEN"])
    t.equal(told(name), "", name);
  for (const name of Object.values(ENGINE_ENV)) t.equal(told(name), "", `${name} is for engines`);
  t.end();
});

t.test("names that must exist: profiles, keys, modes, with the nearest", (t) => {
  const told = (admission: string): readonly string[] =>
    settingsProblems(loadConfig({ text: `admission: { ${admission} }` }).admission);
  const rule = (bounds: string): string => `policy: [{ name: p, namespaceSelector: {}, ${bounds} }]`;
  const table: [string, RegExp][] = [
    [
      "defaultProfile: nvida",
      /^admission.defaultProfile: "nvida" is not known, did you mean nvidia\?; give one of nvidia, /,
    ],
    [
      rule("deniedKeys: [tandem.sh/plan, tandem.sh/qeue]"),
      /^admission.policy.0.deniedKeys.1: .*mean tandem.sh\/queue\?/,
    ],
    [rule("keys: [tandem/queue]"), /^admission.policy.0.keys.0: "tandem\/queue" is not known.*routing.tandem.sh\/\*$/],
    [
      rule("modes: [managed]"),
      /^admission.policy.0.modes.0: "managed" is not known, did you mean manage\?; give one of off, /,
    ],
    [rule("accelerators: [nvida]"), /^admission.policy.0.accelerators.0: .*mean nvidia\?.*extended resource$/],
  ];
  for (const [text, wanted] of table) t.match(told(text), [wanted], text);
  const right = [
    "profiles: [{ name: mine, resource: example.com/npu }], defaultProfile: mine",
    rule("keys: ['tandem.sh/*'], deniedKeys: [routing.tandem.sh/weight, '*.tandem.sh/*', tandem.sh/instance]"),
    rule("modes: ['*'], accelerators: ['nvidia*', example.com/npu]"),
    "defaultProfile: ''",
  ];
  for (const text of right) t.same(told(text), [], text);
  t.end();
});

t.test("lists in the environment: commas with spaces, or JSON", (t) => {
  for (const text of ["rack, block,", '["rack","block"]'])
    t.same(loadConfig({ environment: { TANDEM_TOPOLOGY_LEVELS: text } }).topology.levels, ["rack", "block"]);
  t.same(loadConfig({ environment: { TANDEM_TOPOLOGY_LEVELS: "" } }).topology.levels, []);
  t.end();
});

t.test("the reference page is the schema's", (t) => {
  const page = readFileSync(new URL("../../docs/reference/configuration.md", import.meta.url), "utf8");
  t.equal(page, configReference(), "run npm run docs");
  t.end();
});
