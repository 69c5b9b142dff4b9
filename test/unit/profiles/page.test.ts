import { readFileSync } from "node:fs";
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { BUILT_IN, configuredDevices, deviceProfile } from "../../../src/profiles/devices.ts";
import { handsOut } from "../../../src/profiles/devices/product.ts";

const page = readFileSync(new URL("../../../docs/devices.md", import.meta.url), "utf8");
const example = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
const GOLDEN = "../../golden/admission/a-profile-of-the-configuration-gives-what-it-names/config.yaml";

t.test("the page names every built-in profile and every product", (t) => {
  for (const { name, rules } of BUILT_IN) {
    t.match(page, `\`${name}\``, name);
    for (const { value } of rules) t.match(page, value.startsWith("350-") ? "`350-Atlas-*`" : `\`${value}\``, value);
  }
  t.end();
});

t.test("the example loads as it stands, and is what the golden case proves", (t) => {
  const { admission } = loadConfig({ text: example, name: "docs/devices.md" });
  const devices = configuredDevices(admission);
  const mine = deviceProfile(admission.defaultProfile, devices);
  t.match(mine, { resource: "npu.example.com/device", fabric: "fast-npu", share: false });
  const [rule] = mine?.rules ?? [];
  t.ok(rule !== undefined && handsOut(rule, 4) && !handsOut(rule, 3));
  t.equal(deviceProfile("nvidia", devices)?.runtimeClassName, "nvidia", "a built-in name stands in its place");
  t.equal(readFileSync(new URL(GOLDEN, import.meta.url), "utf8"), example);
  t.end();
});
