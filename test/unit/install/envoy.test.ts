/** What the shipped Envoy configurations promise, as far as it can be read off them. */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseObjects } from "../../../src/cli/input.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { UNTRUSTED_HEADERS } from "../../../src/kinds/names.ts";
import { ENVOY_PROFILES, shippedConfig, type EnvoyProfile } from "../../e2e/cluster/envoy.ts";
import { REPOSITORY } from "../../e2e/cluster/paths.ts";

interface Manager {
  early_header_mutation_extensions: [{ typed_config: { mutations: { remove: string }[] } }];
  http_filters: { name: string; typed_config: { failure_mode_allow?: boolean; processing_mode: object } }[];
}

const listenerOf = (profile: EnvoyProfile): ReturnType<typeof shippedConfig>["static_resources"]["listeners"][0] =>
  shippedConfig(profile).static_resources.listeners[0];
const managerOf = (profile: EnvoyProfile): Manager =>
  listenerOf(profile).filter_chains[0].filters[0].typed_config as unknown as Manager;

for (const profile of ENVOY_PROFILES)
  t.test(`profile ${profile} never trusts a client about routing`, (t) => {
    const { mutations } = managerOf(profile).early_header_mutation_extensions[0].typed_config;
    t.same(mutations.map(({ remove }) => remove).sort(), [...UNTRUSTED_HEADERS, "x-envoy-original-dst-host"].sort());
    t.equal(managerOf(profile).http_filters[0]?.typed_config.failure_mode_allow, profile === "fail-open");
    const limit = listenerOf(profile).per_connection_buffer_limit_bytes;
    t.ok(limit > loadConfig().router.maxBodyBytes, "the router, not Envoy, decides what is too large");
    t.end();
  });

t.test("the profiles differ in what they send of an answer's body alone", (t) => {
  const [light, exact] = [managerOf("light"), managerOf("exact")];
  t.match(light.http_filters[0]?.typed_config.processing_mode, { response_body_mode: "NONE" });
  t.match(exact.http_filters[0]?.typed_config.processing_mode, { response_body_mode: "STREAMED" });
  const text = (manager: Manager): string => JSON.stringify(manager).replace(/"response_body_mode":"\w+"/, "");
  t.equal(text(light), text(exact));
  t.end();
});

const REMOVED = [...UNTRUSTED_HEADERS, "x-envoy-original-dst-host"].sort();
const objectsOf = (file: string): readonly KubeObject[] =>
  parseObjects(readFileSync(join(REPOSITORY, "manifests", "envoy", `${file}.yaml`), "utf8"), file);

t.test("gateways remove the same headers as early", (t) => {
  const policy = objectsOf("envoy-gateway").find(({ kind }) => kind === "ClientTrafficPolicy");
  t.match(policy, { spec: { headers: { withUnderscoresAction: "DropHeader" } } });
  const { headers } = policy?.["spec"] as { headers: { earlyRequestHeaders: { remove: string[] } } };
  t.same(headers.earlyRequestHeaders.remove.toSorted(), REMOVED);
  const [filter] = objectsOf("istio");
  const { configPatches } = filter?.["spec"] as { configPatches: [{ patch: { value: { typed_config: Manager } } }] };
  const manager = configPatches[0].patch.value.typed_config;
  t.same(manager.early_header_mutation_extensions, managerOf("light").early_header_mutation_extensions);
  t.end();
});

t.test("what fails open has nobody behind it but engines that decode", (t) => {
  const objects = objectsOf("envoy-gateway");
  const extension = objects.find(({ kind }) => kind === "EnvoyExtensionPolicy");
  t.match(extension, { spec: { extProc: [{ failOpen: true, processingMode: { request: { body: "Buffered" } } }] } });
  const service = objects.find(({ kind }) => kind === "Service");
  t.match(service, { spec: { selector: { "tandem.sh/entry": "true" } } });
  t.match(
    objects.find(({ kind }) => kind === "HTTPRoute"),
    {
      spec: { rules: [{ backendRefs: [{ name: service?.metadata.name }] }] },
    },
  );
  t.match(objectsOf("inference-pool")[0], {
    spec: { selector: { matchLabels: { "tandem.sh/entry": "true" } }, endpointPickerRef: { failureMode: "FailClose" } },
  });
  t.end();
});
