/** The bundle: what people run is built as for them, and its router finds the threads that scrape and tokenise. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import t from "tap";
import { SMALL } from "../../support/tokenizer/small.ts";

const BUILD = fileURLToPath(new URL("../../../scripts/build.ts", import.meta.url));
t.setTimeout(300_000);

t.test("the router of dist/tandem.js scrapes and tokenises, from its threads", async (t) => {
  const folder = t.testdir();
  // As package.json says of what it is installed with.
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  await promisify(execFile)(process.execPath, [BUILD, folder]);
  const asked: (string | undefined)[] = [];
  const both = Promise.withResolvers<undefined>();
  const server = createServer((request, response) => {
    asked.push(request.url);
    response.end("vllm:num_requests_running 1\n");
    if (new Set(asked).size === 2) both.resolve(undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = join(folder, "config.json");
  const router = {
    ...{ listen: "127.0.0.1:0", healthListen: "", replicas: { listen: "" } },
    endpoints: { static: [{ address, role: "both", model: "m" }] },
    tokenizer: { models: { m: SMALL } },
  };
  writeFileSync(config, JSON.stringify({ router, metrics: { listen: "" }, admin: { listen: "" } }));
  const child = spawn(process.execPath, [join(folder, "tandem.js"), "serve", "--role", "router", "--config", config], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"], HOME: "/nonexistent" },
  });
  t.teardown(() => child.kill("SIGKILL"));
  let said = "";
  const tokenises = Promise.withResolvers<undefined>();
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (said.includes("tokenizer ready")) tokenises.resolve(undefined);
  });
  const ended = once(child, "close");
  const early = ended.then(() => Promise.reject(new Error(said)));
  early.catch(() => undefined);
  await Promise.race([Promise.all([both.promise, tokenises.promise]), early]);
  t.same(new Set(asked), new Set(["/metrics", "/v1/models"]));
  child.kill("SIGTERM");
  t.same(await ended, [0, null], "and it ends when told");
  t.notMatch(said, /thread failed/);
});
