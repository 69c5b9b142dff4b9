/** Clients of a model behind Envoy: streamed completions at a rate, each read to its end and looked at token by token. */
export interface Ask {
  readonly model: string;
  readonly promptTokens: number;
  readonly answerTokens: number;
}

export interface Answered {
  readonly status: number;
  /** Tokens that came; of a whole answer as many as were asked for. */
  readonly tokens: number;
  /** The stream said that it is over. */
  readonly ended: boolean;
  readonly tookMs: number;
  /** Of an answer that is no stream, or of a connection that broke. */
  readonly error?: string;
}

const DEADLINE_MS = 180_000;

/** One token each, for the simulated engines. */
const SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"];
const WORDS = SYLLABLES.flatMap((first) => SYLLABLES.map((second) => first + second));

/** Prompts never repeat, not in their first block: nothing is cached. */
let asked = 0;
function promptOf(tokens: number): string {
  asked += 1;
  return Array.from({ length: tokens }, (_, index) => WORDS[Math.floor(asked / 100 ** (index % 3)) % 100]).join(" ");
}

/** Never throws: a broken answer is one, too. */
export async function complete(url: string, { model, promptTokens, answerTokens }: Ask): Promise<Answered> {
  const begun = performance.now();
  const lengths = { max_tokens: answerTokens, min_tokens: answerTokens, ignore_eos: true };
  const body = JSON.stringify({ model, prompt: promptOf(promptTokens), stream: true, ...lengths });
  const headers = { "content-type": "application/json" };
  const init = { method: "POST", headers, body, signal: AbortSignal.timeout(DEADLINE_MS) };
  let [status, text, error] = [0, "", undefined as string | undefined];
  try {
    const response = await fetch(`${url}/v1/completions`, init);
    status = response.status;
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (status !== 200) error = text;
  } catch (failure) {
    error = (failure as Error).message;
  }
  const tokens = text.split("\n").filter((line) => /^data: .*"text":\s*"[^"]/.test(line)).length;
  const ended = text.includes("data: [DONE]");
  return { status, tokens, ended, tookMs: performance.now() - begun, ...(error === undefined ? {} : { error }) };
}

export interface Clients {
  /** Sends no more; resolves with every answer when the last one is over. */
  stop(): Promise<readonly Answered[]>;
}

/** So many a second, evenly, however long each takes. */
export function startClients(url: string, { perSecond, ...ask }: Ask & { readonly perSecond: number }): Clients {
  const answers: Promise<Answered>[] = [];
  const begun = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const send = (): void => {
    answers.push(complete(url, ask));
    timer = setTimeout(send, Math.max(0, begun + (1000 * answers.length) / perSecond - performance.now()));
  };
  send();
  return {
    stop: () => {
      clearTimeout(timer);
      return Promise.all(answers);
    },
  };
}

/** What is wrong with an answer that is not whole; undefined where all is well. */
export const brokenOf = ({ status, tokens, ended, error }: Answered, { answerTokens }: Ask): string | undefined =>
  status === 200 && tokens === answerTokens && ended
    ? undefined
    : `${status}, ${tokens} of ${answerTokens} tokens, ${ended ? "ended" : "cut"} ${error ?? ""}`;
