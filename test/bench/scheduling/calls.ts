/**
 * Calls to an extender as kube-scheduler makes them: one kept-alive HTTPS connection, filter and then prioritize for every
 * node name. What is timed is the wire: from the first byte sent to the last received.
 */
import { Agent, request } from "node:https";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import type { Answering } from "../../e2e/cluster/shipped.ts";

export interface Caller {
  /** The answer, and the milliseconds it took. */
  call(verb: "filter" | "prioritize", body: string): Promise<{ readonly text: string; readonly ms: number }>;
  close(): void;
}

export function callerOf({ url, ca }: Answering): Caller {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca });
  return {
    call: (verb, body) =>
      new Promise((resolve, reject) => {
        const payload = Buffer.from(body);
        const headers = { "content-type": "application/json", "content-length": payload.length };
        const started = performance.now();
        const sent = request(`${url}/extender/${verb}`, { agent, method: "POST", headers }, (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk));
          answer.once("error", reject);
          answer.once("end", () => {
            const ms = performance.now() - started;
            const text = Buffer.concat(chunks).toString("utf8");
            if (answer.statusCode === 200) resolve({ text, ms });
            else reject(new Error(`${verb}: ${answer.statusCode ?? 0} ${text.slice(0, 200)}`));
          });
        });
        sent.once("error", reject).end(payload);
      }),
    close: () => agent.destroy(),
  };
}

export interface Asked {
  /** The best of the nodes that the pod may go to. */
  readonly node: string;
  readonly filterMs: number;
  readonly prioritizeMs: number;
}

interface FilterAnswer {
  readonly NodeNames: readonly string[] | null;
  readonly Error: string;
}

/** Both calls for one pod. */
export async function ask(caller: Caller, pod: Pod | KubeObject, names: readonly string[]): Promise<Asked> {
  const body = JSON.stringify({ Pod: pod, Nodes: null, NodeNames: names });
  const filter = await caller.call("filter", body);
  const { NodeNames: fit, Error: error } = JSON.parse(filter.text) as FilterAnswer;
  if (error !== "" || fit === null || fit.length === 0) throw new Error(`filter: ${error === "" ? "no node" : error}`);
  const prioritize = await caller.call("prioritize", JSON.stringify({ Pod: pod, Nodes: null, NodeNames: fit }));
  const scores = JSON.parse(prioritize.text) as readonly { readonly Host: string; readonly Score: number }[];
  const best = scores.reduce((one, other) => (other.Score > one.Score ? other : one));
  return { node: best.Host, filterMs: filter.ms, prioritizeMs: prioritize.ms };
}
