/** What a pick expects of one request: kept until its answer ends, to be compared with what came. A few numbers a stream. */
import type { RequestFacts } from "./request/facts.ts";
import { transferCost } from "./pick/cost.ts";
import { distanceOf } from "./pick/distance.ts";
import { serviceOf } from "./pick/learn.ts";
import { batchOn, type Candidate } from "./pick/pick.ts";
import type { Selection } from "./select.ts";
import type { PromptTokens } from "./tokenize/tokens.ts";

export interface Forecast {
  readonly model: string;
  /** Name of the API. */
  readonly api: string;
  /** Whose request it is. Never to be logged. */
  readonly tenant: string;
  readonly promptTokens: number;
  /** Who counted them; undefined where they are estimated. */
  readonly how: PromptTokens["how"] | undefined;
  /** Of the prompt's text; 0 where it teaches nothing of other prompts: images, batches, lists of tokens. */
  readonly bytes: number;
  /** Prompt tokens that the engine which prefills is thought to hold. */
  readonly cachedTokens: number;
  readonly whence: NonNullable<Candidate["whence"]>;
  /** Of the same engine, by what was sent there. */
  readonly sentTokens: number;
  /** Until the first token: work that waits there, this prompt's own, and the way to the decode engine. */
  readonly firstTokenMs: number;
  readonly service: string;
  /** The endpoint that prefills, and where the answer is made. */
  readonly prefiller: string;
  readonly decoder: string;
  readonly address: string;
  /** Prefill goes elsewhere first. */
  readonly remote: boolean;
  readonly streams: boolean;
  /** Prefill work that waits there, that it was ever given, and this prompt's own. */
  readonly queueMs: number;
  readonly givenMs: number;
  readonly ownMs: number;
  /** Where the answer is made, with this one. */
  readonly requests: number;
  readonly kvTokens: number;
  /** Tokens of a KV block of the engine that prefills, where it is known. */
  readonly blockSize: number | undefined;
}

/** To be made before anything of the request is counted as load. */
export function forecastOf({ prompt, pick, input }: Selection, facts: RequestFacts): Forecast {
  const [first] = pick.prefill;
  const by = first?.candidate ?? pick.decode;
  const ownMs = first?.ownMs ?? pick.localOwnMs;
  const distance = first === undefined ? 0 : distanceOf(by.endpoint, pick.decode.endpoint);
  const transferMs = first === undefined ? 0 : transferCost(prompt.tokens, input.constants, distance);
  return {
    model: prompt.model,
    api: facts.api.name,
    tenant: facts.tenant,
    promptTokens: prompt.tokens,
    how: prompt.how,
    bytes: teaches(facts) ? facts.prompt.bytes : 0,
    cachedTokens: by.cachedTokens,
    whence: by.whence ?? "history",
    sentTokens: by.sentTokens ?? by.cachedTokens,
    firstTokenMs: by.load.prefillMs + ownMs + transferMs,
    ...work(by, ownMs),
    ...batch(pick.decode, prompt.tokens),
    ...{ decoder: pick.decode.endpoint.id, address: pick.decode.endpoint.address },
    ...{ remote: first !== undefined, streams: facts.stream },
    blockSize: blockSizeOf(by),
  };
}

const work = (
  { endpoint, load }: Candidate,
  ownMs: number,
): Pick<Forecast, "service" | "prefiller" | "queueMs" | "givenMs" | "ownMs"> => ({
  ...{ service: serviceOf(endpoint), prefiller: endpoint.id },
  ...{ queueMs: load.prefillMs, givenMs: load.givenMs, ownMs },
});

function batch(decode: Candidate, tokens: number): Pick<Forecast, "requests" | "kvTokens"> {
  const { requests, kvTokens } = batchOn(decode);
  return { requests: requests + 1, kvTokens: kvTokens + tokens };
}

const teaches = ({ prompt, single, scan }: RequestFacts): boolean =>
  single && prompt.media === 0 && !prompt.listed && scan.open === undefined;

const blockSizeOf = ({ endpoint, stats }: Candidate): number | undefined =>
  stats?.blockSize ?? endpoint.compatibility.blockSize;
