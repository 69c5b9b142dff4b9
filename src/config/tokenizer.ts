/** `router.tokenizer`: how tokens of prompts are made, where engines tell of their caches by tokens. */
import Type from "typebox";
import { closed, flag, integer, oneOf } from "./fields.ts";

export const PromptTokenizer = Type.Object(
  {
    mode: oneOf(
      ["auto", "always", "off"],
      "auto",
      "When prompts are tokenised: where some endpoint that may serve them tells of its cache by events; always; never.",
    ),
    models: Type.Record(Type.String({ minLength: 1, maxLength: 256 }), Type.String({ minLength: 1, maxLength: 1024 }), {
      default: {},
      description:
        "Names of models as requests use them, or patterns with *, and where their tokenizer.json is: the file, or its folder. chat_template.jinja or tokenizer_config.json beside it hold the chat template.",
    }),
    threads: integer(1, 1, 16, "Threads that tokenize, where `router.tokenizer.models` names any."),
    queue: integer(64, 1, 10000, "Prompts that wait at one of these threads; more are routed without tokens."),
    cacheBytes: integer(
      67108864,
      1048576,
      8589934592,
      "Memory of each of these threads for tokens of pieces of prompts, and of the router for those that engines made.",
    ),
    budgetMs: integer(10, 1, 1000, "A pick waits so long for tokens, and no longer."),
    engine: flag(true, "Engines are asked for tokens (`/tokenize`) where no tokenizer of their model is here."),
    engineTimeoutMs: integer(1000, 10, 60000, "Deadline of such a call; what comes after the budget serves the next."),
    engineCalls: integer(8, 1, 1000, "Such calls at once; more prompts are routed without tokens."),
  },
  { ...closed, description: "Tokens of prompts." },
);
