/**
 * The tokenizer and the chat template of one model: from the members of a body to the tokens that the engine will make.
 *
 * The tokens that begin every text (BOS) come twice where a template writes them and they are added once more: engines add
 * them to plain prompts alone, and so does this.
 */
import { chatInput, Untold, type ChatInput, type Json } from "./chat.ts";
import { formatOf, type ContentFormat } from "./format.ts";
import type { Job, Members } from "./job.ts";
import { probesOf, SegmentTokenizer, type AddedToken, type Encoder, type PieceCache } from "./segments.ts";

export interface Template {
  /** The syntax tree. */
  readonly parsed: unknown;
  /** Throws where the template refuses what it is given. */
  render(variables: Json): string;
}

/** What the files of a model hold. */
export interface ModelFiles {
  /** Distinguishes these from what the files held before. */
  readonly version: string;
  readonly encoder: Encoder;
  readonly added: readonly AddedToken[];
  /** Name -> template; `default` is the one for all. None: chats have no tokens. */
  readonly templates: ReadonlyMap<string, Template>;
  /** `bos_token` and the like, which templates write. */
  readonly tokens: Readonly<Record<string, string>>;
}

interface Known {
  readonly template: Template;
  readonly format: ContentFormat;
}

export class ModelTokenizer {
  readonly #segments: SegmentTokenizer;
  readonly #templates: ReadonlyMap<string, Known>;
  readonly #tokens: Readonly<Record<string, string>>;

  private constructor(segments: SegmentTokenizer, files: ModelFiles) {
    this.#segments = segments;
    this.#tokens = files.tokens;
    this.#templates = new Map(
      [...files.templates].map(([name, template]) => [name, { template, format: formatOf(template.parsed) }]),
    );
  }

  /** Ready, with pieces kept if the tokenizer has shown that it may be asked piece by piece. */
  static async of(name: string, files: ModelFiles, cache: PieceCache): Promise<ModelTokenizer> {
    const segments = new SegmentTokenizer(`${name}\0${files.version}`, files.encoder, files.added, cache);
    await segments.prove(probesOf(files.added));
    return new ModelTokenizer(segments, files);
  }

  /** Whether pieces are kept. */
  get segments(): boolean {
    return this.#segments.segments;
  }

  get chats(): boolean {
    return this.#templates.size > 0;
  }

  /** The tokens of a prompt. Throws Untold where they are not to be known, SyntaxError where a member is no JSON. */
  async tokens({ shape, dialect, scope, members }: Job): Promise<Int32Array> {
    const body = parsed(members);
    if (shape === "text") {
      const text = body["prompt"] ?? body["text"];
      if (typeof text !== "string") throw new Untold("no text");
      return this.#segments.tokens(text, body["add_special_tokens"] !== false, scope);
    }
    const { template, format } = this.#templateFor(body);
    const input = chatInput(shape, body, dialect, format);
    const { text, behind } = dialect === "sglang" ? continued(input) : { text: input, behind: undefined };
    const rendered = this.#render(template, text);
    const tokens = await this.#segments.tokens(rendered, body["add_special_tokens"] === true, scope);
    return behind === undefined ? tokens : joined(tokens, await this.#segments.tokens(behind, false, scope));
  }

  /** A model may have a template for calls of tools beside the one for all. */
  #templateFor({ tools }: Json): Known {
    const given = Array.isArray(tools) && tools.length > 0;
    const known = (given ? this.#templates.get("tool_use") : undefined) ?? this.#templates.get("default");
    if (known === undefined) throw new Untold("no chat template");
    return known;
  }

  #render(template: Template, { messages, tools, variables }: ChatInput): string {
    // As Transformers does: variables of the request come last.
    const text = rendering(() => template.render({ ...this.#tokens, messages, tools, documents: null, ...variables }));
    return variables["continue_final_message"] === true ? cutBehind(text, messages.at(-1)) : text;
  }
}

const decoder = new TextDecoder();

const parsed = (members: Members): Json =>
  Object.fromEntries(members.map(([key, json]) => [key, JSON.parse(decoder.decode(json)) as unknown]));

/** A template that refuses says so to the engine too, which answers the client. */
function rendering(render: () => string): string {
  try {
    return render();
  } catch (error) {
    throw new Untold(`the template: ${(error as Error).message}`);
  }
}

/** The last message is left open: what the template writes behind its text goes (Transformers, `continue_final_message`). */
function cutBehind(text: string, last: Json | undefined): string {
  const content = finalText(last?.["content"]);
  const at = content === undefined ? -1 : text.lastIndexOf(content.trim());
  if (content === undefined || at === -1) throw new Untold("the last message is not in what the template wrote");
  const spaced = content.trimStart();
  return text.slice(0, at + (text.startsWith(spaced, at) ? spaced.length : content.trim().length));
}

function finalText(content: unknown): string | undefined {
  if (typeof content === "string") return content;
  const last: unknown = Array.isArray(content) ? content.at(-1) : undefined;
  const text = typeof last === "object" && last !== null && "text" in last ? last.text : undefined;
  return typeof text === "string" ? text : undefined;
}

/** SGLang renders without the last message, and puts its tokens behind. */
function continued(input: ChatInput): { text: ChatInput; behind: string | undefined } {
  const { continue_final_message: continues, ...variables } = input.variables;
  const last = input.messages.at(-1);
  const whole = { ...input, variables: { ...variables, add_generation_prompt: true } };
  if (continues !== true || last?.["role"] !== "assistant") return { text: whole, behind: undefined };
  const behind = finalText(last["content"]);
  return { text: { ...whole, messages: input.messages.slice(0, -1) }, behind };
}

function joined(first: Int32Array, second: Int32Array): Int32Array {
  const all = new Int32Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
