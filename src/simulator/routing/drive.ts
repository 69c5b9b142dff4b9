/** A workload through a policy and a fleet in virtual time: what each client saw. A seed in, the same outcomes out. */
import type { Random } from "../../ports.ts";
import { VirtualTime } from "../engine/virtual-time.ts";
import { seededRandom } from "../random.ts";
import { Fleet, type EngineModel, type Topology } from "./fleet.ts";
import type { Policy, Route, World } from "./policy.ts";
import type { SimulatedRequest, Workload } from "./workload.ts";

export interface DriveSpec {
  readonly policy: (world: World) => Policy;
  readonly workload: Workload;
  readonly topology: Topology;
  readonly model: EngineModel;
  readonly seed: number;
  /** Told of requests that ended. */
  readonly progress?: (done: number) => void;
}

/** Milliseconds of virtual time. */
export interface Outcome {
  /** Number of the run, from 0 on. */
  readonly run: number;
  /** When the client sent it. */
  readonly at: number;
  readonly ttftMs: number;
  readonly e2eMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Of the prompt, where it was computed. */
  readonly cachedTokens: number;
}

/** Clients begin this far apart: 800 requests a second, as in Kthena's benchmark. */
const CLIENT_GAP_MS = 1.25;

export async function drive(spec: DriveSpec): Promise<readonly Outcome[]> {
  return new Drive(spec).run();
}

class Drive {
  readonly #spec: DriveSpec;
  readonly #time = new VirtualTime();
  readonly #fleet: Fleet;
  readonly #policy: Policy;
  readonly #outcomes: Outcome[] = [];
  #run = 0;
  #next = 0;
  #failure: Error | undefined;
  /** Something was done that promises wait for: they are to run before time goes on. */
  #touched = false;

  constructor(spec: DriveSpec) {
    this.#spec = spec;
    this.#fleet = new Fleet(spec.topology, spec.model, this.#time, () => (this.#touched = true));
    const random: Random = seededRandom(spec.seed + 1_000_003);
    this.#policy = spec.policy({ fleet: this.#fleet, time: this.#time, random });
  }

  async run(): Promise<readonly Outcome[]> {
    const { requests, runs = 1 } = this.#spec.workload;
    for (; this.#run < runs; this.#run++) await this.#once(requests.length * (this.#run + 1));
    return this.#outcomes;
  }

  /** All requests, until there are so many outcomes. */
  async #once(outcomes: number): Promise<void> {
    this.#begin();
    while (this.#outcomes.length < outcomes && this.#time.step()) {
      if (this.#touched) await this.#turn();
      if (this.#failure !== undefined) throw this.#failure;
    }
    if (this.#outcomes.length < outcomes) throw new Error("requests were lost");
  }

  #begin(): void {
    const { clients, requests } = this.#spec.workload;
    this.#next = 0;
    if (clients === undefined) for (const request of requests) this.#time.after(request.at, () => this.#send(request));
    else for (let client = 0; client < clients; client++) this.#time.after(client * CLIENT_GAP_MS, () => this.#more());
  }

  /** Everything that promises have to do. */
  async #turn(): Promise<void> {
    this.#touched = false;
    await new Promise((resolve) => void setImmediate(resolve));
  }

  /** The next request of a client that waits for its answers. */
  #more(): void {
    const request = this.#spec.workload.requests[this.#next++];
    if (request !== undefined) this.#send(request);
  }

  #send(request: SimulatedRequest): void {
    const at = this.#time.monotonic();
    this.#touched = true;
    this.#policy(request)
      .then((route) => this.#answer(request, route, at))
      .catch((error: unknown) => (this.#failure = error instanceof Error ? error : new Error(String(error))));
  }

  #answer(request: SimulatedRequest, route: Route, at: number): void {
    const { promptTokens, outputTokens } = request;
    let ttftMs = 0;
    const since = (): number => this.#time.monotonic() - at;
    const firstToken = (): void => {
      ttftMs = since();
      route.firstToken();
    };
    const finished: Parameters<Fleet["answer"]>[2]["finished"] = (end) => {
      route.finished(end);
      const cachedTokens = route.remote?.cachedTokens ?? end.cachedTokens;
      this.#outcomes.push({ run: this.#run, at, ttftMs, e2eMs: since(), promptTokens, outputTokens, cachedTokens });
      this.#spec.progress?.(this.#outcomes.length);
      if (this.#spec.workload.clients !== undefined) this.#more();
    };
    this.#fleet.answer(route.engine, request, { firstToken, finished }, route.remote?.source);
  }
}
