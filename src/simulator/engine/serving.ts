/**
 * One request of the OpenAI API, from its decoded body to its answer: makes the sequences, and leaves what a
 * prefill leg computed where its connector has it. How tokens become an answer is in `replies.ts`.
 */
import type { Cancel, Clock, Random, Timers } from "../../ports.ts";
import type { AnswerHead } from "./answers.ts";
import type { HttpRemoteKv } from "./client.ts";
import type { EngineCore } from "./engine.ts";
import type { EventLog } from "./events.ts";
import { blockKeys, sequenceDigest } from "./keys.ts";
import { planOutput } from "./output.ts";
import { Streamed, Whole, type Answer, type Part, type Reply } from "./replies.ts";
import type { GenerationRequest } from "./requests.ts";
import type { RemoteSource, SequenceEnd, SequenceSpec } from "./sequence.ts";
import { keepsBlocks, transferParams, type PairConnector, type Pins } from "./transfer.ts";

export interface ServingSettings {
  readonly connector: PairConnector;
  readonly engineId: string;
  readonly blockSize: number;
  readonly maxModelLen: number;
  readonly leaseMs: number;
  readonly tensorParallel: number;
  /** Mean length of an answer that nothing cuts short, tokens. */
  readonly meanOutputTokens: number;
  readonly cacheReport: boolean;
  /** Where other engines reach this one. */
  readonly address: () => { readonly host: string; readonly port: number };
}

export interface Serving {
  readonly core: EngineCore;
  readonly pins: Pins;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly remote: Pick<HttpRemoteKv, "renew" | "push" | "announce">;
  readonly settings: ServingSettings;
  /** There where the engine publishes what it caches. */
  readonly events?: EventLog;
}

const PREFIX = { completion: "cmpl", chat: "chatcmpl" } as const;

/** Starts a request; the result aborts what is left of it. */
export function serve(serving: Serving, request: GenerationRequest, id: string, reply: Reply): Cancel {
  const head: AnswerHead = {
    kind: request.kind,
    id: `${PREFIX[request.kind]}-${id}`,
    created: Math.floor(serving.clock.now() / 1000),
    model: request.model,
    cacheReport: serving.settings.cacheReport,
  };
  const parts = request.prompts.flatMap((prompt, at) =>
    Array.from({ length: request.samples }, (_, sample) =>
      plan(serving, request, { prompt, sample, index: at * request.samples + sample, id: head.id }),
    ),
  );
  const answer = request.stream ? new Streamed(head, request, parts, reply) : new Whole(head, parts, reply);
  const aborts = parts.map((part) => start(serving, part, answer));
  if (request.transfer.kind === "decode" && request.transfer.metaserver !== undefined)
    serving.remote.announce(request.transfer.metaserver, whereabouts(serving, head.id));
  return () => aborts.forEach((abort) => abort());
}

/** What vLLM-Ascend's layerwise connector posts to the metaserver, as far as it is used here. */
const whereabouts = ({ settings }: Serving, id: string): Record<string, unknown> => ({
  request_id: id,
  do_remote_prefill: false,
  do_remote_decode: true,
  remote_engine_id: settings.engineId,
  remote_block_ids: [],
  remote_block_size: settings.blockSize,
  remote_host: settings.address().host,
  remote_port: settings.address().port,
  remote_tp_size: settings.tensorParallel,
  remote_pcp_size: 1,
  remote_dcp_size: 1,
  remote_cached_tokens: 0,
  token_ids: [],
});

/** Each request of a batch has the next room. */
const nth = (id: string, index: number): string =>
  index === 0 ? id : id.replace(/^room-(\d+)$/, (_, room) => `room-${Number(room) + index}`);

interface Place {
  readonly prompt: readonly number[];
  readonly sample: number;
  readonly index: number;
  /** Of the whole answer. */
  readonly id: string;
}

/** Decides the answer and the keys of every block before anything runs. */
function plan(serving: Serving, request: GenerationRequest, { prompt, sample, index, id }: Place): Part {
  const { settings, random } = serving;
  const digest = sequenceDigest(prompt, request.salt);
  const output = planOutput({
    digest,
    sample,
    maxTokens: request.maxTokens ?? settings.maxModelLen - prompt.length,
    minTokens: request.minTokens,
    ignoreEos: request.ignoreEos,
    meanTokens: settings.meanOutputTokens,
    continues: request.kind === "completion",
  });
  const isPrefill = request.transfer.kind === "prefill";
  const spec: SequenceSpec = {
    // vLLM adds eight random digits, so that two requests with one X-Request-Id never share a pin.
    id: `${id}${request.kind === "completion" ? `-${index}` : ""}-${random.id().slice(0, 8)}`,
    promptTokens: prompt.length,
    outputTokens: output.ids.length,
    keys: blockKeys([...prompt, ...output.ids], settings.blockSize, request.salt),
    digest,
    leg: isPrefill ? "prefill" : "decode",
    finish: output.finish,
    keep: isPrefill && keepsBlocks(settings.connector, output.finish),
    ...(request.transfer.kind === "decode" ? { remote: sourceOf(request.transfer.source, index) } : {}),
  };
  const meeting = request.transfer.kind === "prefill" ? request.transfer.meeting : undefined;
  return {
    ...{ index, prompt, digest, output, salt: request.salt, spec },
    ...(meeting === undefined ? {} : { meeting: { ...meeting, id: nth(meeting.id, index) } }),
  };
}

const sourceOf = (source: RemoteSource, index: number): RemoteSource => ({
  ...source,
  requestId: nth(source.requestId, index),
});

function start(serving: Serving, part: Part, answer: Answer): Cancel {
  const stopRenewing = keepRenewing(serving, part.spec.remote);
  const forget = told(serving, part);
  const abort = serving.core.submit(part.spec, {
    token: (count) => {
      stopRenewing();
      answer.token(part, count);
    },
    finished: (end) => {
      forget();
      leave(serving, { part, end, answer });
    },
    failed: () => answer.failed(),
  });
  return () => {
    stopRenewing();
    abort();
    forget();
    // Nobody reads the answer that would come with the KV.
    if (part.meeting?.awaited === true) serving.pins.drop(part.meeting.id);
  };
}

/** What its blocks hold, for as long as they may be stored: the last ones are told of when the step is over. */
function told({ events, timers }: Serving, { spec, prompt, output, salt }: Part): Cancel {
  if (events === undefined) return () => undefined;
  const forget = events.expect(spec.keys, [...prompt, ...output.ids], salt);
  return () => void timers.after(1000, forget);
}

/** vLLM's decode engines renew a lease six times before it would end. */
const RENEWALS_PER_LEASE = 6;

function keepRenewing({ timers, settings, remote }: Serving, source: RemoteSource | undefined): Cancel {
  if (source === undefined || source.waits === true) return () => undefined;
  return timers.every(settings.leaseMs / RENEWALS_PER_LEASE, () => remote.renew(source));
}

interface Ended {
  readonly part: Part;
  readonly end: SequenceEnd;
  readonly answer: Answer;
}

/** A sequence is done: its blocks go where its connector has them go, and its answer when that has it answer. */
function leave(serving: Serving, { part, end, answer }: Ended): void {
  const { meeting, spec, digest, prompt } = part;
  if (!spec.keep || meeting === undefined) {
    answer.finished(part, end, pin(serving, part, end));
    return;
  }
  const left = { blocks: end.kept, tokens: prompt.length, digest };
  if (meeting.pushTo !== undefined) {
    serving.remote.push(meeting.pushTo, meeting.id, { tokens: prompt.length, digest });
    serving.core.free(end.kept);
  } else if (meeting.awaited === true) {
    const ended = (pulled: boolean): void => (pulled ? answer.finished(part, end, null) : answer.failed());
    serving.pins.hold(meeting.id, { ...left, ended });
    return;
  } else serving.pins.hold(meeting.id, left);
  answer.finished(part, end, serving.settings.connector === "nixl-push" ? paramsOf(serving, part, end) : null);
}

/** Pins the blocks that a prefill leg leaves, and says where they are. */
function pin({ pins, settings }: Serving, part: Part, end: SequenceEnd): Record<string, unknown> | null {
  if (!part.spec.keep) return null;
  pins.hold(part.spec.id, { blocks: end.kept, tokens: part.prompt.length, digest: part.digest });
  return paramsOf({ settings }, part, end);
}

const paramsOf = ({ settings }: Pick<Serving, "settings">, part: Part, end: SequenceEnd): Record<string, unknown> =>
  transferParams(settings.connector, {
    engineId: settings.engineId,
    requestId: part.spec.id,
    ...settings.address(),
    blocks: end.kept,
    tokens: part.prompt.length,
    blockSize: settings.blockSize,
    lastTokenId: part.output.ids.at(-1) ?? 0,
    tensorParallel: settings.tensorParallel,
  });

export type { Reply } from "./replies.ts";
