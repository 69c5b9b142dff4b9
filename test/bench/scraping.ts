/**
 * How long the serving thread's event loop is held up while engines with large metrics pages are scraped: by itself, as
 * a scraper on that thread would, and from the thread beside it. `npm run bench:scraping -- --help`.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startScraping } from "../../src/cli/roles/scraping.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { startScraper, type Scraper } from "../../src/endpoints/scrape.ts";
import { createEngineClient } from "../../src/router/disagg/client.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { rounded } from "../support/usage.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `How long scraping holds up the event loop of the thread that serves.

  --engines N   that are scraped, each once a second (100)
  --kib N       size of each metrics page; 4,096 is the most that is read (3900)
  --seconds N   of each measurement (10)
  --json        machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:scraping -- --engines 20`;

interface Row {
  readonly thread: "none" | "serving" | "own";
  readonly engines: number;
  readonly pageKib: number;
  readonly scrapesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Engines, on a thread of their own: one server, many names. */
function serve(kib: number): void {
  const line = 'vllm:request_success_total{finished_reason="stop",model_name="a-model-of-some-length"} 12345.0\n';
  const page = Buffer.from(line.repeat(Math.floor((kib * 1024) / line.length)) + "vllm:num_requests_running 3\n");
  const server = createServer((request, response) =>
    response.end(request.url === "/metrics" ? page : '{"data":[{"id":"m"}]}'),
  );
  server.listen(0, "127.0.0.1", () => parentPort?.postMessage((server.address() as AddressInfo).port));
}

async function main(): Promise<void> {
  const number = { type: "string" } as const;
  const { values } = parsed({
    options: {
      ...{ engines: number, kib: number, seconds: number },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const [engines, kib] = [Number(values.engines ?? 100), Number(values.kib ?? 3900)];
  const seconds = Number(values.seconds ?? 10);
  const stub = new Worker(new URL(import.meta.url), { workerData: { kib } });
  const port = await new Promise<number>((resolve) => stub.once("message", resolve));
  const rows: Row[] = [];
  for (const thread of ["none", "serving", "own"] as const)
    rows.push({ thread, engines, pageKib: kib, ...(await measure({ thread, engines, port, seconds })) });
  await stub.terminate();
  if (values.json) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

interface Setting {
  readonly thread: Row["thread"];
  readonly engines: number;
  readonly port: number;
  readonly seconds: number;
}

async function measure({
  thread,
  engines,
  port,
  seconds,
}: Setting): Promise<Omit<Row, "thread" | "engines" | "pageKib">> {
  const statics = Array.from({ length: engines }, (_, at) => ({
    address: `127.0.0.1:${port}`,
    role: "both",
    model: `m${at}`,
  }));
  const text = JSON.stringify({ router: { endpoints: { static: statics.slice(0, 1) } } });
  const config = loadConfig({ text });
  const [one] = staticEndpoints(config.router.endpoints.static);
  const endpoints = one === undefined ? [] : statics.map((_, at) => ({ ...one, id: `engine-${at}` }));
  const ports = createPorts(config, SILENT_LOG);
  const client = createEngineClient();
  const { scrapeIntervalMs: intervalMs, scrapeTimeoutMs: timeoutMs } = config.router;
  const start: Record<Row["thread"], () => Scraper | undefined> = {
    none: () => undefined,
    serving: () => startScraper({ ...ports, client, endpoints: () => endpoints, intervalMs, timeoutMs }),
    own: () => startScraping(ports, () => endpoints, {}, { intervalMs, timeoutMs }),
  };
  const scraper = start[thread]();
  await sleep(2 * intervalMs);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const read = new Set<number | undefined>();
  const seen = (): void => endpoints.forEach(({ id }) => read.add(scraper?.of(id).stats?.at));
  seen();
  const before = read.size;
  delay.enable();
  for (let at = 0; at < seconds * 5; at++) {
    await sleep(200);
    seen();
  }
  delay.disable();
  scraper?.stop();
  await client.close();
  const ms = (nanos: number): number => rounded(nanos / 1e6, 2);
  return {
    scrapesPerSecond: rounded((read.size - before) / seconds),
    ...{ p50Ms: ms(delay.percentile(50)), p99Ms: ms(delay.percentile(99)), maxMs: ms(delay.max) },
  };
}

if (isMainThread) await main();
else serve((workerData as { kib: number }).kib);
