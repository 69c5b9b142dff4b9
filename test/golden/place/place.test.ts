/** `tandem place` on whole clusters: each folder holds its objects and the answer. UPDATE_GOLDEN=1 writes the answers. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parse, stringify } from "yaml";
import { parseObjects } from "../../../src/cli/input.ts";
import { placeJson, placeObjects } from "../../../src/cli/place.ts";
import { loadConfig } from "../../../src/config/load.ts";

const cases = readdirSync(import.meta.dirname, { withFileTypes: true }).filter((entry) => entry.isDirectory());

type Answer = ReturnType<typeof placeJson>;

/** Generated names hold a hash of the admitted template, which is not what is tested here: replicas are alike. */
const settled = ({ pods, gangs }: Answer): Answer => ({
  pods: pods
    .map((pod) => ({ ...pod, name: String(pod.name).replace(/-[a-z0-9]{10}-[a-z0-9]{5}$/, "") }))
    .toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
  gangs,
});

for (const { name } of cases)
  t.test(name, (t) => {
    const [input, expected] = ["input.yaml", "expected.yaml"].map((file) => join(import.meta.dirname, name, file));
    const objects = parseObjects(readFileSync(input ?? "", "utf8"), name);
    const answer = settled(placeJson(placeObjects(objects, loadConfig())));
    if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(expected ?? "", stringify(answer, { lineWidth: 0 }));
    t.ok(existsSync(expected ?? ""), "there is an answer");
    t.same(answer, parse(readFileSync(expected ?? "", "utf8")));
    const turned = settled(placeJson(placeObjects(objects.toReversed(), loadConfig())));
    t.same(turned, answer, "the order of the objects does not matter");
    t.end();
  });
