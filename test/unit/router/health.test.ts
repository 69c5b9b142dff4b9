import t from "tap";
import { connect, type ClientHttp2Session } from "node:http2";
import { frame } from "../../../src/router/extproc/grpc.ts";
import { Reader, eachField, textField } from "../../../src/router/extproc/wire.ts";
import { startHealthServer } from "../../../src/router/health/server.ts";

const CHECK = "/grpc.health.v1.Health/Check";
const LISTEN = { host: "127.0.0.1", port: 0 };

interface Answer {
  readonly grpc: string | undefined;
  readonly serving: number | undefined;
}

const question = (service: string): Buffer => Buffer.concat(frame([textField(1, service)]));

/** One call: sends `bytes`, ends, and reads status and answer. */
function ask(session: ClientHttp2Session, bytes: Buffer, path = CHECK): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
    let grpc: string | undefined;
    const chunks: Buffer[] = [];
    const note = (headers: Record<string, unknown>): void => {
      grpc = (headers["grpc-status"] as string | undefined) ?? grpc;
    };
    stream.on("response", note).on("trailers", note);
    stream.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", () => undefined);
    stream.on("close", () => resolve({ grpc, serving: status(Buffer.concat(chunks)) }));
    stream.end(bytes);
  });
}

function status(bytes: Buffer): number | undefined {
  let found: number | undefined;
  if (bytes.length > 5)
    eachField(new Reader(bytes.subarray(5)), (field, reader) => field === 1 && ((found = reader.varint()), true));
  return found;
}

t.test("liveness serves always, readiness while ready, others are not known", async (t) => {
  let ready = false;
  const server = await startHealthServer(LISTEN, () => ready);
  const session = connect(`http://${server.address}`);
  const readiness = ["readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension", ""];
  t.same(await ask(session, question("liveness")), { grpc: "0", serving: 1 });
  for (const name of readiness) t.same(await ask(session, question(name)), { grpc: "0", serving: 2 }, name);
  ready = true;
  for (const name of readiness) t.same(await ask(session, question(name)), { grpc: "0", serving: 1 }, name);
  t.same(await ask(session, question("nobody")), { grpc: "5", serving: undefined });
  t.same(await ask(session, question(""), "/grpc.health.v1.Health/Watch"), { grpc: "12", serving: undefined });
  session.destroy();
  await server.stop();
});

t.test("a broken prober harms nobody", async (t) => {
  const server = await startHealthServer(LISTEN, () => true);
  const session = connect(`http://${server.address}`);
  const twice = Buffer.concat([question(""), question("")]);
  t.same(await ask(session, twice), { grpc: "0", serving: 1 }, "two messages on a unary call");
  t.equal((await ask(session, Buffer.concat(frame([Buffer.alloc(2000)])))).grpc, "3", "a message too large");
  t.equal((await ask(session, Buffer.concat(frame([Buffer.from([0xff])])))).grpc, "3", "no message");
  t.equal((await ask(session, Buffer.alloc(0))).grpc, "3", "nothing at all");
  t.equal((await ask(session, question(""))).serving, 1, "serves afterwards");
  session.destroy();
  await server.stop();
});

t.test("stop does not wait for probers that keep their connection", { timeout: 30_000 }, async (t) => {
  const server = await startHealthServer(LISTEN, () => true);
  const session = connect(`http://${server.address}`);
  session.on("error", () => undefined);
  await ask(session, question(""));
  await server.stop();
  t.pass("stopped");
  session.destroy();
});
