/**
 * The way to other engines, over HTTP: pulls, renews and drops pinned prefixes at the address that
 * `kv_transfer_params` name. Works the same whether the other engine lives in this process or elsewhere.
 */
import { request } from "node:http";
import { isIP } from "node:net";
import type { Timers } from "../../ports.ts";
import type { PullRequest, RemoteKv } from "./engine.ts";
import type { TransferFailure } from "./facts.ts";
import type { RemoteSource } from "./sequence.ts";

/** A loopback or rack-local call; vLLM's handshake has a timeout of the same order. */
const DEADLINE_MS = 5000;
const MAX_ANSWER_BYTES = 4096;

export const PIN_PATHS = { pull: "/simulator/pull", renew: "/simulator/renew", drop: "/simulator/drop" } as const;

type Answer = { readonly status: number; readonly text: string } | undefined;

export class HttpRemoteKv implements RemoteKv {
  readonly #timers: Timers;
  readonly #failed: (why: TransferFailure) => void;

  constructor(timers: Timers, failed: (why: TransferFailure) => void) {
    this.#timers = timers;
    this.#failed = failed;
  }

  pull({ source, tokens, digest, transferMs }: PullRequest, done: (matched: boolean) => void): void {
    this.#post(source, PIN_PATHS.pull, { transfer_ms: transferMs }, (answer) => {
      const failure = judge(answer, tokens, digest);
      if (failure !== undefined) this.#failed(failure);
      done(failure === undefined);
    });
  }

  /** Keeps a prefix pinned while its decode leg waits; vLLM's decode engines send heartbeats to this end. */
  renew(source: RemoteSource): void {
    this.#post(source, PIN_PATHS.renew, {}, () => undefined);
  }

  drop(source: RemoteSource): void {
    this.#post(source, PIN_PATHS.drop, {}, () => undefined);
  }

  /** Calls `done` exactly once; without an answer where there is none in time. */
  #post(source: RemoteSource, path: string, fields: object, done: (answer: Answer) => void): void {
    // Names would be resolved: the side channel of a pod is always an address.
    if (isIP(source.host) === 0) {
      done(undefined);
      return;
    }
    const body = JSON.stringify({ engine_id: source.engineId, request_id: source.requestId, ...fields });
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const { host, port } = source;
    const call = request({ host, port, path, method: "POST", headers, agent: false });
    const cancel = this.#timers.after(DEADLINE_MS, () => call.destroy());
    let isDone = false;
    const finish = (answer: Answer): void => {
      if (isDone) return;
      isDone = true;
      cancel();
      done(answer);
    };
    call.on("error", () => finish(undefined)).on("close", () => finish(undefined));
    call.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > MAX_ANSWER_BYTES) call.destroy();
      });
      response.on("end", () => finish({ status: response.statusCode ?? 0, text }));
    });
    call.end(body);
  }
}

/** Why the pinned prefix cannot be used; undefined where it can. */
function judge(answer: Answer, tokens: number, digest: number): TransferFailure | undefined {
  if (answer === undefined) return "unreachable";
  if (answer.status !== 200) return "unknown";
  const pinned: unknown = parse(answer.text);
  if (typeof pinned !== "object" || pinned === null) return "unknown";
  const isSame = "tokens" in pinned && "digest" in pinned && pinned.tokens === tokens && pinned.digest === digest;
  return isSame ? undefined : "mismatch";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
