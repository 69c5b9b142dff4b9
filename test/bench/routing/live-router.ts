/** A published policy behind the same ext_proc server: which request it is stands in a header of the client's. */
import { HEADER } from "../../../src/kinds/names.ts";
import { jsonAnswer } from "../../../src/router/answers.ts";
import type { Answer, Begun, CompleteRequest, RequestRouter } from "../../../src/router/exchange.ts";
import { headerOf } from "../../../src/router/headers.ts";
import type { Chooser } from "../../../src/simulator/routing/policy.ts";
import type { SimulatedRequest } from "../../../src/simulator/routing/workload.ts";

/** Which request of the workload this is. */
export const NUMBER_HEADER = "x-bench-request";
const MAX_BODY_BYTES = 64 * 2 ** 20;

export function policyRouter(
  chooser: Chooser,
  requests: readonly SimulatedRequest[],
  addresses: readonly string[],
): RequestRouter {
  const refused: Answer = jsonAnswer(400, { error: "not a request of this workload" });
  const begin = ({ headers, body }: CompleteRequest): Begun => {
    const request = requests[Number(headerOf(headers, NUMBER_HEADER))];
    if (request === undefined) return { ticket: NO_TICKET, routed: Promise.resolve(refused) };
    const choice = chooser.choose(request);
    chooser.chosen?.(request, choice);
    const { engine } = choice;
    const sent = chooser.sent?.(request, engine);
    const destination = addresses[engine] ?? "";
    let over = false;
    const finish = (): void => {
      if (!over) sent?.over?.();
      over = true;
    };
    const ticket = { ...NO_TICKET, firstToken: () => sent?.firstToken?.(), finish };
    const requestHeaders = [[HEADER.destination, destination]] as const;
    return {
      ticket,
      routed: Promise.resolve({ kind: "forward", destination, requestHeaders, responseHeaders: [], body }),
    };
  };
  const refuse = (): Answer => refused;
  return {
    ...{ maxBodyBytes: MAX_BODY_BYTES, bodyTimeoutMs: 60_000, patienceMs: 1000, begin, precheck: () => undefined },
    ...{ tooLarge: refuse, tooSlow: refuse, saturated: refuse },
  };
}

const nothing = (): void => undefined;
const NO_TICKET = { served: nothing, responseStarted: nothing, firstToken: nothing, usage: nothing, finish: nothing };
