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
): Pick<RequestFacts, "single" | "oneAnswer" | "cuttable"> {
  if (leg === undefined && rooms === undefined) return { single: false, oneAnswer: false, cuttable: false };
  // SGLang's own API has its sampling parameters in an object too, as vLLM's has.
  const within = leg === undefined ? "sampling_params" : leg.within;
  const sampling = within === undefined ? fields : fields.inside(within);
  const oneAnswer = ONE_ANSWER.every(([key, values]) => {
    const raw = sampling.raw(key);
    return raw === undefined || values.includes(raw.toString("latin1", 0, 8));
  });
  const onePrompt = prompt.every((member) => member.key !== "prompt" || isOnePrompt(fields.raw(member.key)));
  const cuttable = !isForced(fields.value("tool_choice")) && !scoresPrompt(fields, sampling);
  return { single: leg !== undefined && oneAnswer && onePrompt, oneAnswer, cuttable };
}

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

const isGiven = (fields: Fields, key: string): boolean => !["n", "\0"].includes(fields.first(key));
