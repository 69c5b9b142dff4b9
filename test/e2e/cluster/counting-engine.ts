/**
 * An engine that counts: every request by its `x-id`, with the checksum of its body, which its answer tells. `x-answer`
 * names the form of the answer: `unary`, or `sse` with events before the last. Answers wait while `hold` says so.
 */
import { createHash } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export const checksum = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

export interface CountingEngines {
  readonly addresses: readonly string[];
  /** How often each id came, whole. */
  readonly served: ReadonlyMap<string, number>;
  /** Answers that wait now. */
  waiting(): number;
  /** From now on answers wait until `release`, or until so many wait. */
  hold(until?: number): void;
  release(): void;
  stop(): void;
}

const EVENTS = 20;
const EVENT = `data: {"choices":[{"delta":{"content":"${"x".repeat(40)}"}}]}\n\n`;

/** @param eventMs between the events of an answer */
export async function startCountingEngines(count: number, eventMs = 0): Promise<CountingEngines> {
  const served = new Map<string, number>();
  const gate = new Gate();
  const answer = async (response: ServerResponse, form: string, got: object): Promise<void> => {
    if (form !== "sse") return void response.setHeader("content-type", "application/json").end(JSON.stringify(got));
    response.setHeader("content-type", "text/event-stream");
    for (let event = 0; event < EVENTS && !response.destroyed; event++) {
      response.write(EVENT);
      if (eventMs > 0) await sleep(eventMs);
    }
    response.end(`data: ${JSON.stringify(got)}\n\n`);
  };
  // Idle connections stay: one that closes as Envoy takes it would count as an engine that broke.
  const create = () =>
    createServer({ keepAliveTimeout: 600_000, requestTimeout: 0 }, (request, response) => {
      const hash = createHash("sha256");
      request.on("error", () => undefined);
      request.on("data", (chunk: Buffer) => hash.update(chunk));
      request.on("end", () => {
        const id = String(request.headers["x-id"] ?? "");
        if (id === "") return void response.end(JSON.stringify({ data: [{ id: "m" }] }));
        served.set(id, (served.get(id) ?? 0) + 1);
        const form = String(request.headers["x-answer"] ?? "");
        void gate.pass().then(() => answer(response, form, { id, checksum: hash.digest("hex") }));
      });
    });
  const servers = Array.from({ length: count }, create);
  for (const server of servers) await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", 4096, resolve));
  return {
    addresses: servers.map((server) => `127.0.0.1:${(server.address() as AddressInfo).port}`),
    served,
    waiting: () => gate.waiting,
    hold: (until) => gate.close(until),
    release: () => gate.open(),
    stop: () => {
      for (const server of servers) server.close();
      for (const server of servers) server.closeAllConnections();
    },
  };
}

class Gate {
  #waiting: (() => void)[] = [];
  #closed = false;
  #until = Infinity;

  get waiting(): number {
    return this.#waiting.length;
  }

  close(until = Infinity): void {
    this.#closed = true;
    this.#until = until;
  }

  open(): void {
    this.#closed = false;
    for (const pass of this.#waiting.splice(0)) pass();
  }

  pass(): Promise<void> {
    if (!this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length >= this.#until) this.open();
    });
  }
}
