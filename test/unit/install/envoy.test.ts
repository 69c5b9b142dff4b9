/** What the shipped Envoy configurations promise, as far as it can be read off them. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { UNTRUSTED_HEADERS } from "../../../src/kinds/names.ts";
import { ENVOY_PROFILES, shippedConfig, type EnvoyProfile } from "../../e2e/cluster/envoy.ts";

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
