/** The reference page of the configuration, written from the schema. `npm run docs` writes it; a test compares. */
import { accepted, configKeys } from "./load.ts";
import { CompanionResource, CountRule, DeviceProfileSchema, HostMount } from "./devices.ts";
import { PolicyRule } from "./policy.ts";
import { PassedPath, StaticEndpoint } from "./engines.ts";

const cell = (text: string): string => text.replaceAll("|", "\\|");
const value = (fallback: unknown): string =>
  fallback === "" || fallback === undefined ? "" : `\`${JSON.stringify(fallback)}\``;

/** Lists of objects: what one entry of each holds. */
const ENTRIES: readonly (readonly [title: string, schema: { readonly properties: object }])[] = [
  ["router.endpoints.static", StaticEndpoint],
  ["router.passthrough", PassedPath],
  ["admission.policy", PolicyRule],
  ["admission.profiles", DeviceProfileSchema],
  ["admission.profiles[].companions", CompanionResource],
  ["admission.profiles[].rules", CountRule],
  ["admission.profiles[].mounts", HostMount],
];

function entryTable(title: string, { properties }: { readonly properties: object }): readonly string[] {
  const rows = Object.entries(properties).map(([key, schema]) => {
    const node = schema as Parameters<typeof accepted>[0];
    return `| \`${key}\` | ${cell(accepted(node))} | ${value(node.default)} | ${cell(node.description ?? "")} |`;
  });
  return [`## An entry of \`${title}\``, "", "| key | accepts | default | meaning |", "|---|---|---|---|", ...rows, ""];
}

export function configReference(): string {
  const rows = configKeys().map(
    ({ path, environment, schema }) =>
      `| \`${path}\` | ${cell(accepted(schema))} | ${value(schema.default)} | \`${environment}\` | ${cell(schema.description ?? "")} |`,
  );
  return [
    "# Configuration",
    "",
    "Written from the schema in `src/config/schema.ts` by `npm run docs`. Flags (`--set PATH=VALUE`) win over the environment, the environment over the file.",
    "",
    "| key | accepts | default | environment | meaning |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    ...ENTRIES.flatMap(([title, schema]) => entryTable(title, schema)),
  ].join("\n");
}
