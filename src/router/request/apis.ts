/**
 * The APIs that are understood, as data: which members of a body carry the model, the prompt, the limit of the answer.
 *
 * One entry an API. What the code does with a request follows from its entry alone, so a new API is a new entry. Fields
 * as in OpenAI's and Anthropic's references, vLLM's protocol modules and SGLang's `GenerateReqInput`.
 */

/** A member of the body that the engine makes its prompt of. */
export interface PromptMember {
  readonly key: string;
  /** First characters of a value of the right type: `"` text, `[` list, `{` object. */
  readonly kinds: string;
  /** `media`: bytes that stand for images and the like, whatever they look like. */
  readonly holds?: "media";
}

export interface Leg {
  /** The member that holds the limit and `min_tokens`, where they do not stand at the top. */
  readonly within?: string;
  /** Set to 1: the prefill leg makes one token. */
  readonly limit: string;
  /** Set to 1 where it is given. */
  readonly limitToo?: string;
}

export interface Api {
  readonly name: string;
  /** All take POST. */
  readonly paths: readonly string[];
  /** What its clients take for an error. */
  readonly errors: ErrorShape;
  /** Optional where engines that serve one model take requests that name none. */
  readonly model: "required" | "optional";
  /** In the order in which templates put them: what stands first is shared by most requests. */
  readonly prompt: readonly PromptMember[];
  /** At least one of these sets of prompt members is there. */
  readonly needs: readonly (readonly string[])[];
  /** Limits of generated tokens, the strongest first; `a.b` is member `b` of object `a`. */
  readonly limits: readonly string[];
  /** `generate`: prefill and decode. `encode`: prefill alone. `text`: no device works. */
  readonly work: "generate" | "encode" | "text";
  /** How the prefill leg limits the answer; absent where vLLM hands no KV over for the API. */
  readonly leg?: Leg;
  /** SGLang takes the room of a bootstrap server in it. */
  readonly rooms?: true;
  /** The member that separates prefix caches; absent where engines take none. */
  readonly salt?: string;
  /** The member that names an adapter beside the model. */
  readonly adapter?: string;
}

export type ErrorShape = "openai" | "anthropic";

const text = (key: string): PromptMember => ({ key, kinds: '"' });
const list = (key: string): PromptMember => ({ key, kinds: "[" });
const textOrList = (key: string): PromptMember => ({ key, kinds: '"[' });
const any = (key: string): PromptMember => ({ key, kinds: '"[{' });
const media = (key: string): PromptMember => ({ key, kinds: '"[{', holds: "media" });

const openai = { errors: "openai", model: "required", salt: "cache_salt", adapter: "lora_path" } as const;
const encodes = { ...openai, work: "encode", limits: [] } as const;

export const APIS: readonly Api[] = [
  {
    ...openai,
    name: "completions",
    paths: ["/v1/completions"],
    prompt: [textOrList("prompt")],
    needs: [["prompt"]],
    limits: ["max_tokens"],
    work: "generate",
    leg: { limit: "max_tokens" },
    rooms: true,
  },
  {
    ...openai,
    name: "chat",
    paths: ["/v1/chat/completions"],
    // The keys of other routers' prompts are compared with ours in the benchmark: tools, then messages.
    prompt: [list("tools"), list("documents"), list("messages")],
    needs: [["messages"]],
    limits: ["max_completion_tokens", "max_tokens"],
    work: "generate",
    leg: { limit: "max_tokens", limitToo: "max_completion_tokens" },
    rooms: true,
  },
  {
    ...openai,
    name: "responses",
    paths: ["/v1/responses"],
    prompt: [list("tools"), text("instructions"), textOrList("input")],
    needs: [["input"]],
    limits: ["max_output_tokens"],
    work: "generate",
  },
  {
    ...encodes,
    name: "embeddings",
    paths: ["/v1/embeddings"],
    prompt: [textOrList("input"), list("messages")],
    needs: [["input"], ["messages"]],
  },
  {
    ...encodes,
    name: "rerank",
    paths: ["/v1/rerank", "/rerank", "/v2/rerank"],
    prompt: [any("query"), any("documents")],
    needs: [["query", "documents"]],
  },
  {
    ...encodes,
    name: "score",
    paths: ["/score", "/v1/score"],
    prompt: ["queries", "text_1", "data_1", "documents", "items", "text_2", "data_2"].map(any),
    needs: [
      ["text_1", "text_2"],
      ["queries", "documents"],
      ["queries", "items"],
      ["data_1", "data_2"],
    ],
  },
  {
    name: "messages",
    paths: ["/v1/messages"],
    errors: "anthropic",
    model: "required",
    prompt: [list("tools"), textOrList("system"), list("messages")],
    needs: [["messages"]],
    limits: ["max_tokens"],
    work: "generate",
    leg: { limit: "max_tokens" },
  },
  {
    name: "count tokens",
    paths: ["/v1/messages/count_tokens"],
    errors: "anthropic",
    model: "required",
    prompt: [list("tools"), textOrList("system"), list("messages")],
    needs: [["messages"]],
    limits: [],
    work: "text",
  },
  {
    name: "tokenize",
    paths: ["/tokenize", "/v1/tokenize"],
    errors: "openai",
    model: "optional",
    prompt: [textOrList("prompt"), list("tools"), list("messages")],
    needs: [["prompt"], ["messages"]],
    limits: [],
    work: "text",
  },
  {
    name: "detokenize",
    paths: ["/detokenize", "/v1/detokenize"],
    errors: "openai",
    model: "optional",
    prompt: [list("tokens")],
    needs: [["tokens"]],
    limits: [],
    work: "text",
  },
  {
    name: "vLLM generate",
    paths: ["/inference/v1/generate"],
    errors: "openai",
    model: "optional",
    // `features` says which images the placeholders among the tokens stand for.
    prompt: [media("features"), list("token_ids")],
    needs: [["token_ids"]],
    limits: ["sampling_params.max_tokens"],
    work: "generate",
    leg: { within: "sampling_params", limit: "max_tokens" },
    salt: "cache_salt",
  },
  {
    name: "SGLang generate",
    paths: ["/generate"],
    errors: "openai",
    model: "optional",
    prompt: [...["image_data", "video_data", "audio_data"].map(media), textOrList("text"), list("input_ids")],
    needs: [["text"], ["input_ids"]],
    limits: ["sampling_params.max_new_tokens"],
    work: "generate",
    rooms: true,
    salt: "extra_key",
    adapter: "lora_path",
  },
];

export const MODELS_PATH = "/v1/models";

/** A Map: a path is the client's word, and every object has a `constructor`. */
const BY_PATH: ReadonlyMap<string, Api> = new Map(APIS.flatMap((api) => api.paths.map((path) => [path, api] as const)));

/** @param path without a query */
export const apiOf = (path: string): Api | undefined => BY_PATH.get(path);

export const API_PATHS: readonly string[] = [...BY_PATH.keys()];

/** A request that is not looked into: what is known of it stands in its head. */
export const OPAQUE: Api = {
  name: "opaque",
  paths: [],
  errors: "openai",
  model: "optional",
  prompt: [],
  needs: [[]],
  limits: [],
  work: "generate",
};
