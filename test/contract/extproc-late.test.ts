/** Requests that come too slowly, or never: nothing waits for them for ever. The router behind is scripted. */
import t from "tap";
import type { ClientHttp2Stream } from "node:http2";
import { systemTimers } from "../../src/telemetry/process.ts";
import { body, head, immediateStatus, openStream, rig, until } from "../support/extproc-rig.ts";

t.test("a request that is not here in time is 408, or the end; one that runs is left alone", async (t) => {
  const looks: (() => void)[] = [];
  const every = (ms: number, task: () => void): (() => void) => {
    if (ms === 500) looks.push(task);
    return () => undefined;
  };
  const { session, open, stop } = await rig({ bodyTimeoutMs: 5000, timers: { ...systemTimers, every } });
  const look = (times: number): void => {
    for (let time = 0; time < times; time++) for (const task of looks) task();
  };
  const write = (...parts: Buffer[]): ClientHttp2Stream => {
    const stream = openStream(session);
    if (parts.length > 0) stream.write(Buffer.concat(parts));
    return stream;
  };
  const running = write(head("FULL_DUPLEX_STREAMED"), body(Buffer.from("{}"))).resume();
  const slow = (["FULL_DUPLEX_STREAMED", "BUFFERED", "BUFFERED_PARTIAL"] as const).map((mode) =>
    write(head(mode), body(Buffer.from("{"), false).subarray(0, 6)),
  );
  const trickling = write(head("FULL_DUPLEX_STREAMED"), body(Buffer.from("{"), false));
  const silent = write();
  await until(() => open.streams === 6 && open.begun === 1);
  look(10);
  trickling.write(body(Buffer.from(" "), false));
  const young = write(head("FULL_DUPLEX_STREAMED"));
  await until(() => open.streams === 7);
  t.equal(open.streams, 7, "just in time");
  const statuses = Promise.all([...slow, trickling].map(immediateStatus));
  silent.resume();
  look(1);
  t.same(await statuses, [408, 408, 408, 408]);
  await until(() => open.streams === 2);
  t.same(open, { tickets: 1, streams: 2, begun: 1 }, "the one that runs, and the young one");
  look(100);
  await until(() => open.streams === 1);
  t.same(open, { tickets: 1, streams: 1, begun: 1 });
  for (const stream of [running, young]) stream.close(8);
  await until(() => open.streams === 0);
  t.equal(open.tickets, 0);
  await stop();
});
