/**
 * Answers of which Envoy is set up to tell the headers alone (Envoy Gateway tells of trailers with duplex bodies only):
 * work counts until their end where the router may change modes, and so ask for trailers. Where it may not, an Envoy ends
 * the stream once nothing is left to tell, and then only one that showed no request body either.
 */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { HEADER } from "../../src/kinds/names.ts";
import type { RequestRouter } from "../../src/router/exchange.ts";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";
import { ENVOY_VERSIONS } from "./cluster/envoy-binary.ts";
import { startEnvoy } from "./cluster/envoy.ts";

t.setTimeout(300_000);

/** Begins its answer, and ends it when told. */
async function startEngine(): Promise<{ server: Server; address: string; begun: () => Promise<ServerResponse> }> {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      server.emit("begun", response);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const begun = async (): Promise<ServerResponse> => ((await once(server, "begun")) as [ServerResponse])[0];
  return { server, address: `127.0.0.1:${(server.address() as AddressInfo).port}`, begun };
}

function scripted(engine: string, told: { finished: number }): RequestRouter {
  const never = (): never => {
    throw new Error("not expected");
  };
  const ignore = (): undefined => undefined;
  const rest = { served: ignore, responseStarted: ignore, firstToken: ignore, usage: ignore };
  return {
    ...{ maxBodyBytes: 1024 * 1024, patienceMs: 5000, bodyTimeoutMs: 60_000 },
    ...{ precheck: ignore, tooLarge: never, tooSlow: never, saturated: never },
    begin: ({ body }) => {
      let over = false;
      const finish = (): void => {
        told.finished += over ? 0 : 1;
        over = true;
      };
      const requestHeaders = [[HEADER.destination, engine]] as const;
      const forward = { kind: "forward", destination: engine, requestHeaders, responseHeaders: [], body } as const;
      return { ticket: { ...rest, finish }, routed: Promise.resolve(forward) };
    },
  };
}

const until = async (condition: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 250 && !condition(); tries++) await sleep(20);
};

async function run(t: Test, version: (typeof ENVOY_VERSIONS)[number], extProc: Record<string, unknown>) {
  const engine = await startEngine();
  const told = { finished: 0 };
  const router = await startExtProcServer(
    { host: "127.0.0.1", port: 0 },
    {
      ...{ router: scripted(engine.address, told), maxStreams: 100, maxBufferedBytes: 2 ** 24 },
      ...{ clock: systemClock, timers: systemTimers, log: SILENT_LOG, metrics: NO_METRICS },
    },
  );
  const envoy = await startEnvoy({
    version,
    extProcAddress: router.address,
    decodeEndpoints: [engine.address],
    extProc,
  });
  t.teardown(async () => {
    await envoy.stop();
    await router.stop(0);
    engine.server.close();
  });
  const begun = engine.begun();
  const body = JSON.stringify({ model: "m", prompt: "x".repeat(20_000) });
  const answer = fetch(`${envoy.url}/v1/completions`, { method: "POST", body });
  const response = await begun;
  const { status } = await answer;
  t.equal(status, 200);
  return { told, envoy, end: async () => (response.end("data: 2\n\n"), (await answer).text()) };
}

const settings = (request: string, allowed: boolean): Record<string, unknown> => ({
  allow_mode_override: allowed,
  processing_mode: {
    ...{ request_header_mode: "SEND", request_body_mode: request, request_trailer_mode: "SKIP" },
    ...{ response_header_mode: "SEND", response_body_mode: "NONE", response_trailer_mode: "SKIP" },
  },
});

/** Measured: Envoy 1.38 ends such a stream with the headers, 1.36.2 with the answer. */
const ENDS_EARLY = { newest: ["NONE"], oldest: [] as string[] };

for (const version of ENVOY_VERSIONS)
  for (const mode of ["BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "NONE"])
    for (const allowed of [true, false]) {
      const early = !allowed && ENDS_EARLY[version].includes(mode);
      const name = `Envoy (${version}), ${mode}, modes ${allowed ? "may" : "may not"} be changed`;
      t.test(`${name}: the work counts until the ${early ? "headers" : "end"} of the answer`, async (t) => {
        const { told, envoy, end } = await run(t, version, settings(mode, allowed));
        // The reply to the answer's headers let it begin: what ends with it is at its end by now.
        await (early ? until(() => told.finished === 1) : sleep(300));
        t.equal(told.finished, early ? 1 : 0);
        t.equal(await end(), "data: 1\n\ndata: 2\n\n");
        await until(() => told.finished === 1);
        t.equal(told.finished, 1);
        for (const bad of ["spurious_msgs_received", "streams_failed", "message_timeouts"])
          t.equal(await envoy.stat(`http.inference.ext_proc.${bad}`), 0, bad);
      });
    }
