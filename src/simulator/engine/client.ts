/**
 * The way to other engines, over HTTP: pulls, renews and drops pinned prefixes at the address that a request names, or
 * waits until they are there. Works the same whether the other engine lives in this process or elsewhere.
 */
import { request } from "node:http";
import { isIP } from "node:net";
import type { Cancel, Clock, Timers } from "../../ports.ts";
import type { Arrival, Arrivals } from "./arrivals.ts";
import type { Pulled, PullRequest, RemoteKv } from "./engine.ts";
import type { TransferFailure } from "./facts.ts";
import type { RemoteSource } from "./sequence.ts";

/** A loopback or rack-local call; vLLM's handshake has a timeout of the same order. */
const DEADLINE_MS = 5000;
const MAX_ANSWER_BYTES = 4096;
/** How often a prefix that is not there yet is looked for. */
const POLL_MS = 10;
/** vLLM-Ascend tries a metaserver so often where no answer comes, and reads none. */
const ANNOUNCEMENTS = 3;

export const PIN_PATHS = {
  pull: "/simulator/pull",
  renew: "/simulator/renew",
  drop: "/simulator/drop",
  push: "/simulator/push",
} as const;

type Answer = { readonly status: number; readonly text: string } | undefined;

export interface RemotePorts {
  readonly timers: Timers;
  readonly clock: Clock;
  readonly arrivals: Arrivals;
  /** How long a prefix is waited for that may still be computed. */
  readonly waitMs: number;
  readonly failed: (why: TransferFailure) => void;
}

export class HttpRemoteKv implements RemoteKv {
  readonly #ports: RemotePorts;
  readonly #waiting = new Set<Cancel>();
  /** Of a look that was under way, none follows. */
  #stopped = false;

  constructor(ports: RemotePorts) {
    this.#ports = ports;
  }

  pull(pull: PullRequest, done: (pulled: Pulled) => void): void {
    this.#try(pull, this.#ports.clock.monotonic() + this.#ports.waitMs, done);
  }

  /** Keeps a prefix pinned while its decode leg waits; vLLM's decode engines send heartbeats to this end. */
  renew(source: RemoteSource): void {
    this.#post(source, PIN_PATHS.renew, {}, () => undefined);
  }

  drop(source: RemoteSource): void {
    this.#post(source, PIN_PATHS.drop, {}, () => undefined);
  }

  /** Writes a prefix into another engine. */
  push({ host, port }: { host: string; port: number }, id: string, arrival: Arrival): void {
    this.#post({ host, port, engineId: "", requestId: id }, PIN_PATHS.push, arrival, () => undefined);
  }

  /** Posts where this engine waits for a prefill. The status of the answer is not looked at. */
  announce(url: string, message: object, tries = ANNOUNCEMENTS): void {
    if (tries === 0 || !URL.canParse(url)) return;
    const { hostname: host, port, pathname: path } = new URL(url);
    const to = { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
    this.#call(to, path, JSON.stringify(message), (answer) => {
      if (answer === undefined) this.announce(url, message, tries - 1);
    });
  }

  /** Waits for nothing any more. */
  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#waiting) cancel();
    this.#waiting.clear();
  }

  #try(pull: PullRequest, ends: number, done: (pulled: Pulled) => void): void {
    this.#look(pull, (failure) => {
      const waits = pull.source.waits === true;
      if (failure === undefined) done("matched");
      else if (waits && failure !== "mismatch" && this.#ports.clock.monotonic() < ends) this.#later(pull, ends, done);
      else {
        this.#ports.failed(failure);
        done(waits ? "failed" : "none");
      }
    });
  }

  #later(pull: PullRequest, ends: number, done: (pulled: Pulled) => void): void {
    if (this.#stopped) return;
    const cancel = this.#ports.timers.after(POLL_MS, () => {
      this.#waiting.delete(cancel);
      this.#try(pull, ends, done);
    });
    this.#waiting.add(cancel);
  }

  /** One look at the source; undefined where the prefix is there, and claimed with that. */
  #look(
    { source, tokens, digest, transferMs }: PullRequest,
    done: (failure: TransferFailure | undefined) => void,
  ): void {
    if (source.waits === true && source.host === "") {
      const arrival = this.#ports.arrivals.take(source.requestId);
      done(arrival === undefined ? "unknown" : isSame(arrival, tokens, digest) ? undefined : "mismatch");
      return;
    }
    this.#post(source, PIN_PATHS.pull, { transfer_ms: transferMs }, (answer) => done(judge(answer, tokens, digest)));
  }

  /** Calls `done` exactly once; without an answer where there is none in time. */
  #post(source: RemoteSource, path: string, fields: object, done: (answer: Answer) => void): void {
    // Names would be resolved: the side channel of a pod is always an address.
    if (isIP(source.host) === 0) {
      done(undefined);
      return;
    }
    this.#call(
      source,
      path,
      JSON.stringify({ engine_id: source.engineId, request_id: source.requestId, ...fields }),
      done,
    );
  }

  #call(
    { host, port }: { host: string; port: number },
    path: string,
    body: string,
    done: (answer: Answer) => void,
  ): void {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const call = request({ host, port, path, method: "POST", headers, agent: false });
    const cancel = this.#ports.timers.after(DEADLINE_MS, () => call.destroy());
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
  return isSame(pinned, tokens, digest) ? undefined : "mismatch";
}

const isSame = (pinned: object, tokens: number, digest: number): boolean =>
  "tokens" in pinned && "digest" in pinned && pinned.tokens === tokens && pinned.digest === digest;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
