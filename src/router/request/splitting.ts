/** Whether prefill and decode of a request can run on two engines: by what its members ask of the answer. */
import type { Api } from "./apis.ts";
import type { RequestFacts } from "./facts.ts";
import type { Fields } from "./fields.ts";

/** Members that ask for several answers of one prompt, with the values that do not. */
const ONE_ANSWER: readonly (readonly [key: string, values: readonly string[]])[] = [
  ["n", ["1", "null"]],
  ["best_of", ["1", "null"]],
  ["use_beam_search", ["false", "null"]],
];

export function splittingOf(
  { prompt, leg, rooms }: Api,
  fields: Fields,
): Pick<RequestFacts, "single" | "oneAnswer" | "cuttable" | "unscored"> {
  if (leg === undefined && rooms === undefined) return UNSPLIT;
  // SGLang's own API has its sampling parameters in an object too, as vLLM's has.
  const within = leg === undefined ? "sampling_params" : leg.within;
  const sampling = within === undefined ? fields : fields.inside(within);
  const oneAnswer = ONE_ANSWER.every(([key, values]) => {
    const raw = sampling.raw(key);
    return raw === undefined || values.includes(raw.toString("latin1", 0, 8));
  });
  const onePrompt = prompt.every((member) => member.key !== "prompt" || isOnePrompt(fields.raw(member.key)));
  const unscored = !scoresPrompt(fields, sampling) && !scoresFrom(fields);
  const cuttable = unscored && !isForced(fields.value("tool_choice"));
  return { single: leg !== undefined && oneAnswer && onePrompt, oneAnswer, cuttable, unscored };
}

const UNSPLIT = { single: false, oneAnswer: false, cuttable: false, unscored: false };

/** Text or tokens; a list of texts or of token lists is a batch, be it of one. */
const isOnePrompt = (raw: Buffer | undefined): boolean => !/^\[\s*["[]/.test(raw?.toString("latin1", 0, 64) ?? "");

/** OpenAI's values and Anthropic's that leave it to the model. */
const FREE: ReadonlySet<unknown> = new Set(["auto", "none"]);

/**
 * A call of a tool that must come: vLLM reads it as JSON, which one token of a prefill leg is not, and answers 400 or 500
 * (vllm#38911).
 */
function isForced(choice: unknown): boolean {
  if (choice === undefined || choice === null) return false;
  return typeof choice === "object" ? !FREE.has((choice as { type?: unknown }).type) : !FREE.has(choice);
}

/** Probabilities of the prompt's own tokens: who decodes does not compute them, and vLLM answers what lay in its memory. */
function scoresPrompt(fields: Fields, sampling: Fields): boolean {
  return isGiven(sampling, "prompt_logprobs") || (fields.first("echo") === "t" && isGiven(fields, "logprobs"));
}

/**
 * SGLang's way to ask for them: `return_logprob` with the place in the prompt from which they begin, one for each prompt
 * in batches (`GenerateReqInput`). Absent or -1: of the answer's tokens alone. At its last token or behind it there is
 * nothing of the prompt either; a text has no more tokens than bytes.
 */
function scoresFrom(fields: Fields): boolean {
  if (!["t", "["].includes(fields.first("return_logprob"))) return false;
  if (!isGiven(fields, "logprob_start_len")) return false;
  const from = fields.value("logprob_start_len");
  if (Array.isArray(from)) return from.some((each) => each !== null && each !== -1);
  return from !== -1 && !(typeof from === "number" && from >= lastTokenOf(fields));
}

/** The place of the prompt's last token, or one behind it. */
function lastTokenOf(fields: Fields): number {
  const ids = fields.raw("input_ids");
  if (ids === undefined) return fields.raw("text")?.length ?? Infinity;
  return ids.reduce((commas, byte) => commas + (byte === COMMA ? 1 : 0), 0);
}

const COMMA = 0x2c;

const isGiven = (fields: Fields, key: string): boolean => !["n", "\0"].includes(fields.first(key));
