/** The reference page of the configuration, written from the schema. `npm run docs` writes it; a test compares. */
import { accepted, configKeys } from "./load.ts";
import { StaticEndpoint } from "./schema.ts";

const cell = (text: string): string => text.replaceAll("|", "\\|");
const value = (fallback: unknown): string =>
  fallback === "" || fallback === undefined ? "" : `\`${JSON.stringify(fallback)}\``;

export function configReference(): string {
  const rows = configKeys().map(
    ({ path, environment, schema }) =>
      `| \`${path}\` | ${cell(accepted(schema))} | ${value(schema.default)} | \`${environment}\` | ${cell(schema.description ?? "")} |`,
  );
  const items = Object.entries(StaticEndpoint.properties).map(([key, schema]) => {
    const node = schema as unknown as Parameters<typeof accepted>[0];
    return `| \`${key}\` | ${cell(accepted(node))} | ${value(node.default)} | ${cell(node.description ?? "")} |`;
  });
  return [
    "# Configuration",
    "",
    "Written from the schema in `src/config/schema.ts` by `npm run docs`. Flags (`--set PATH=VALUE`) win over the environment, the environment over the file.",
    "",
    "| key | accepts | default | environment | meaning |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    "## An entry of `router.endpoints.static`",
    "",
    "| key | accepts | default | meaning |",
    "|---|---|---|---|",
    ...items,
    "",
  ].join("\n");
}
