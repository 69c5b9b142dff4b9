/** The page of APIs, written from their table. `npm run docs` writes it; a test compares. */
import { APIS, MODELS_PATH, type Api } from "./apis.ts";

const code = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(", ");

const COLUMNS: readonly (readonly [title: string, cell: (api: Api) => string])[] = [
  ["API", ({ name }) => name],
  ["paths", ({ paths }) => code(paths)],
  ["model", ({ model }) => model],
  ["prompt", ({ prompt }) => code(prompt.map(({ key }) => key))],
  ["needs", ({ needs }) => needs.map((keys) => keys.map((key) => `\`${key}\``).join(" and ")).join(", or ")],
  ["limits of the answer", ({ limits }) => code(limits)],
  ["work", ({ work }) => work],
  ["prefill leg", ({ leg }) => (leg === undefined ? "no" : "yes")],
  ["cache salt", ({ salt }) => (salt === undefined ? "none" : `\`${salt}\``)],
  ["errors", ({ errors }) => (errors === "openai" ? "OpenAI" : "Anthropic")],
];

const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

const BEFORE = `# APIs

Written from the table in \`src/router/request/apis.ts\` by \`npm run docs\`. All take POST and \`application/json\`; \`GET ${MODELS_PATH}\` lists the models, adapters and aliases of all endpoints that the request may reach. Paths in \`router.passthrough\` are passed on unread; every other path is 404.

- *model*: where it is optional and the body names none, header \`x-gateway-model-name\` does, else the only service there is; with several it is 400.
- *prompt*: members that prefix keys are made of, in this order. An image, video or sound counts as \`router.index.mediaTokens\` tokens, told apart by its bytes.
- *work*: \`generate\` is prefilled and decoded, \`encode\` prefilled alone, \`text\` computes nothing on a device.
- *prefill leg*: whether the prompt may be prefilled on another endpoint than it is decoded on. Batches, \`n\` and \`best_of\` above 1 and beam search never are.
- *cache salt*: the member by which engines keep prefix caches apart; with \`router.tenant.saltKeyFile\` it is the router's to write.
`;

const AFTER = `
A body is at most \`router.maxBodyBytes\` long, nested at most 64 deep, with at most 256 members at the top, none of them twice, however their names are escaped. It is UTF-8. All of it keeps to the grammar of JSON (RFC 8259), whatever member it is in; no number is longer than 400 bytes. A model's name has 1 to 256 characters, no NUL and no half of a surrogate pair.

Bodies reach the engine byte for byte. Changed in place are: the model that \`router.aliases\` gives another name (answers then name the engine's), the cache salt of a tenant, members of the prefill leg; taken out are members that name transfer hosts.

A body with a \`content-encoding\` is 415, or, with \`router.encodedBodies: route\`, goes unread to an endpoint by load; so do the paths of \`router.passthrough\`. What is unread keeps what it says of transfer hosts: let in only clients that may say it.

State that one engine keeps (\`previous_response_id\`) is not followed: such a request goes where its cost is lowest.
`;

export const apisReference = (): string =>
  [
    BEFORE,
    line(COLUMNS.map(([title]) => title)),
    `|${"---|".repeat(COLUMNS.length)}`,
    ...APIS.map((api) => line(COLUMNS.map(([, cell]) => cell(api)))),
    AFTER,
  ].join("\n");
