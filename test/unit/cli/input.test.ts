import { join } from "node:path";
import t from "tap";
import { parseObjects, readObjects, UsageError } from "../../../src/cli/input.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(300_000);

const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: x }\n";
const nested = (depth: number, inner = "1"): string => `${"[".repeat(depth)}${inner}${"]".repeat(depth)}`;

t.test("aliases and nesting that would never end are bad input, and told as that", (t) => {
  const laughs = Array.from({ length: 12 }, (_, index) => {
    const before = index === 0 ? '"lol"' : Array.from({ length: 9 }, () => `*a${index - 1}`).join(",");
    return `a${index}: &a${index} [${before}]`;
  }).join("\n");
  const cases: [name: string, text: string, message: RegExp][] = [
    ["a billion laughs", head + laughs, /alias count/],
    ["an alias of itself", `${head}data: &x\n  y: *x\n`, /stands for itself/],
    ["an alias of itself, many times", `${head}data: &x [*x, *x, *x, *x]\n`, /stands for itself/],
    ["nested beyond the stack", `${head}data: ${"[".repeat(100_000)}`, /document|not readable/],
    ["nested too deep", `${head}data: ${"[".repeat(70)}${"]".repeat(70)}`, /nested deeper than 64/],
    ["deep by aliases", `${head}a: &a ${nested(40)}\nb: &b ${nested(40, "*a")}\n`, /nested deeper than 64/],
    ["an alias of nothing", `${head}data: *nothing\n`, /not YAML|not readable/],
    ["no YAML", "a: [1", /not YAML/],
    ["no object", "[1, 2]", /not a Kubernetes object/],
  ];
  for (const [name, text, message] of cases)
    t.throws(() => parseObjects(text, "f"), { name: "Error", message, constructor: UsageError }, name);
  t.end();
});

t.test("anchors as people use them are read, and odd keys are plain keys", (t) => {
  const text = `${head}data:\n  a: &env { k: v }\n  b: *env\n  c: { <<: *env }\n  __proto__: { polluted: "1" }\n`;
  const [object] = parseObjects(text, "f");
  t.match(object, { data: { a: { k: "v" }, b: { k: "v" } } });
  t.ok(Object.hasOwn(object?.["data"] as object, "__proto__"));
  t.equal(({} as Record<string, unknown>)["polluted"], undefined);
  t.end();
});

t.test("the same object twice is bad input, told with both places", (t) => {
  const named = (kind: string, more = ""): string => `apiVersion: v1\nkind: ${kind}\nmetadata: { name: x${more} }\n`;
  const folder = t.testdir({
    "a.yaml": `${named("ConfigMap")}---\n${named("Secret")}`,
    "b.yaml": `${named("Service")}---\n${named("ConfigMap", ", namespace: default")}`,
    "other.yaml": named("ConfigMap", ", namespace: other"),
    "unnamed.yaml": "apiVersion: v1\nkind: Pod\nmetadata: { generateName: x- }\n".concat("---\n").repeat(2),
  });
  const [a, b] = ["a.yaml", "b.yaml"].map((file) => join(folder, file)) as [string, string];
  const twice = `is defined twice: ${a}: document 1, and `;
  t.throws(() => readObjects([folder]), { message: `ConfigMap default/x ${twice}${b}: document 2` });
  t.throws(() => readObjects([a, a]), { message: `ConfigMap x ${twice}${a}: document 1` });
  t.equal(readObjects([a, join(folder, "other.yaml"), join(folder, "unnamed.yaml")]).length, 5);
  t.end();
});
