/**
 * Ports of 127.0.0.1 for servers that a test starts elsewhere.
 *
 * They lie below the range from which the kernel gives ports to `listen(0)` and to clients (32768 and up on Linux): a
 * port of that range, closed again so that a child may take it, can be anybody's by then. One of this process's own
 * is never given twice; the start differs by process, so that test files side by side seldom even try the same.
 */
import { createServer } from "node:net";

const FIRST = 12_000;
const COUNT = 18_000;
// 7919 is prime to COUNT: consecutive processes start far from each other.
let next = (process.pid * 7919) % COUNT;

/** `count` ports that nothing listens on, all different, and different from those given before. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tried = 0; ports.length < count; tried += 1) {
    if (tried === COUNT) throw new Error(`no ${count} free ports of ${FIRST} to ${FIRST + COUNT - 1}`);
    const port = FIRST + next;
    next = (next + 1) % COUNT;
    if (await listens(port)) ports.push(port);
  }
  return ports;
}

async function listens(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
