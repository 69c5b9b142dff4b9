import t from "tap";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import type { Answer, RequestRouter } from "../../src/router/exchange.ts";
import { startGateway } from "../../src/simulator/gateway/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";

const ANSWER: Answer = { kind: "answer", status: 404, headers: [], body: Buffer.from("{}"), reason: "ModelUnknown" };
const nothing = (): void => undefined;
const router: RequestRouter = {
  maxBodyBytes: 1000,
  patienceMs: 1000,
  bodyTimeoutMs: 60_000,
  begin: () => ({
    routed: Promise.resolve(ANSWER),
    ticket: { served: nothing, responseStarted: nothing, firstToken: nothing, usage: nothing, finish: nothing },
  }),
  precheck: () => undefined,
  tooLarge: () => ANSWER,
  tooSlow: () => ANSWER,
  saturated: () => ANSWER,
};

t.test("a client that goes away inside its body ends its own exchange only", async (t) => {
  const options = { router, maxStreams: 10, maxBufferedBytes: 1e6, clock: systemClock, timers: systemTimers };
  const server = await startExtProcServer(
    { host: "127.0.0.1", port: 0 },
    { ...options, log: SILENT_LOG, metrics: NO_METRICS },
  );
  const gateway = await startGateway(server.address);
  const { port } = new URL(gateway.url);
  const socket = connect(Number(port), "127.0.0.1");
  await once(socket, "connect");
  socket.write("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
  await sleep(100);
  socket.resetAndDestroy();
  await sleep(100);
  const response = await fetch(`${gateway.url}/v1/completions`, { method: "POST", body: "{}" });
  t.equal(response.status, 404, "serves afterwards");
  await gateway.stop();
  await server.stop(0);
});
