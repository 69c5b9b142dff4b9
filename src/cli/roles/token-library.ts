/**
 * The files of a model as Hugging Face's libraries read them: `tokenizer.json`, and beside it the chat template, in
 * `chat_template.jinja` or in `tokenizer_config.json`.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Template } from "@huggingface/jinja";
import { isObject } from "../../kinds/kube.ts";
import type * as tokenizers from "tokenizers";
import type { Json } from "../../router/tokenize/chat.ts";
import type { ModelFiles } from "../../router/tokenize/model.ts";
import type { AddedToken } from "../../router/tokenize/segments.ts";

/** The native library; where it is not installed, or not for this machine, this rejects. */
export const openTokenizers = (): Promise<typeof tokenizers> => import("tokenizers");

/** As much of it as is used. */
export type TokenizerLibrary = Pick<typeof tokenizers, "Tokenizer">;

/** The largest known has 34 MB. */
const MAX_FILE_BYTES = 128 * 2 ** 20;

/** What counts for the version of a model; read as far as they are there. */
const FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"] as const;
const MORE_TEMPLATES = "additional_chat_templates";

const folderOf = (path: string): string => (statSync(path).isDirectory() ? path : dirname(path));
const tokenizerOf = (path: string): string => (statSync(path).isDirectory() ? join(path, FILES[0]) : path);

/** Changes when a file does. Mounted ConfigMaps change by exchanging a link: what it leads to is looked at. */
export function versionOf(path: string): string {
  const folder = folderOf(path);
  const files = [tokenizerOf(path), ...FILES.slice(1).map((file) => join(folder, file))].filter(existsSync);
  const stats = files.map((file) => {
    const { mtimeMs, size, ino } = statSync(file);
    return [basename(file), mtimeMs, size, ino];
  });
  return JSON.stringify(stats);
}

/** Throws where a file is missing or not what it should be. */
export function loadModel(path: string, library: TokenizerLibrary): ModelFiles {
  const folder = folderOf(path);
  const version = versionOf(path);
  const text = read(tokenizerOf(path));
  const tokenizer = library.Tokenizer.fromString(text);
  // Engines tokenize without: a limit in the file is that of training.
  tokenizer.disableTruncation();
  tokenizer.disablePadding();
  const config = jsonOf(join(folder, "tokenizer_config.json"));
  return {
    version,
    added: addedOf(JSON.parse(text)),
    encoder: {
      encode: async (piece, special) => (await tokenizer.encode(piece, null, { addSpecialTokens: special })).getIds(),
    },
    templates: new Map([...templatesOf(folder, config)].map(([name, source]) => [name, new Template(source)])),
    tokens: tokensOf({ ...config, ...jsonOf(join(folder, "special_tokens_map.json")) }),
  };
}

function read(file: string): string {
  const { size } = statSync(file);
  if (size > MAX_FILE_BYTES) throw new Error(`${file}: ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
  return readFileSync(file, "utf8");
}

function jsonOf(file: string): Json {
  const value: unknown = existsSync(file) ? JSON.parse(read(file)) : {};
  if (!isObject(value)) throw new Error(`${file}: no JSON object`);
  return value;
}

function addedOf(file: unknown): AddedToken[] {
  const added: unknown = isObject(file) ? file["added_tokens"] : undefined;
  return Array.isArray(added) ? added.filter(isAdded) : [];
}

const isAdded = (token: unknown): token is AddedToken =>
  isObject(token) && typeof token["content"] === "string" && Number.isSafeInteger(token["id"]);

/** A file of its own comes before what stands in the configuration, as in Transformers. */
function templatesOf(folder: string, { chat_template: given }: Json): Map<string, string> {
  const own = join(folder, "chat_template.jinja");
  const more = join(folder, MORE_TEMPLATES);
  const files = (existsSync(more) ? readdirSync(more) : []).filter((file) => file.endsWith(".jinja"));
  return new Map([
    ...namedIn(given),
    ...(existsSync(own) ? [["default", read(own)] as const] : []),
    ...files.map((file) => [basename(file, ".jinja"), read(join(more, file))] as const),
  ]);
}

/** One template, or a list of them with names. */
function namedIn(given: unknown): (readonly [name: string, template: string])[] {
  const entries: unknown[] = Array.isArray(given) ? given : [{ name: "default", template: given }];
  return entries.flatMap((entry) => {
    const { name, template } = isObject(entry) ? entry : {};
    return typeof name === "string" && typeof template === "string" ? [[name, template] as const] : [];
  });
}

/** `bos_token` and the like, as text or as an object that holds it. */
function tokensOf(config: Json): Record<string, string> {
  const tokens = Object.entries(config).map(([key, value]) => {
    const content = isObject(value) ? value["content"] : value;
    return key.endsWith("_token") && typeof content === "string" ? ([key, content] as const) : undefined;
  });
  return Object.fromEntries(tokens.filter((each) => each !== undefined));
}
