/** A router process that tells what it holds: RSS as it is, and what is alive after a full collection. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "../e2e/cluster/process.ts";
import { memoryOf } from "../support/usage.ts";
import { comes, startRouterProcess, type RouterProcess, type RouterSettings } from "./router-process.ts";

export interface Held {
  readonly rssMib: number;
  /** Alive after a full collection: the heap, and buffers beside it. */
  readonly liveBytes: number;
}

export interface CollectingRouter extends RouterProcess {
  /** RSS first, then a collection. */
  held(): Promise<Held>;
}

export async function startCollectingRouter(settings: RouterSettings): Promise<CollectingRouter> {
  const { folder, remove } = temporaryFolder("tandem-memory-");
  const file = join(folder, "memory.json");
  const tell = `fs.writeFileSync(${JSON.stringify(file)},JSON.stringify(process.memoryUsage()))`;
  // Buffers beside the heap go after the objects that held them.
  const code = `import fs from"node:fs";process.on("SIGUSR2",()=>{gc();setTimeout(()=>{gc();${tell}},300)})`;
  const args = ["--expose-gc", "--import", `data:text/javascript,${encodeURIComponent(code)}`];
  const router = await startRouterProcess({ ...settings, args: [...(settings.args ?? []), ...args] });
  const held = async (): Promise<Held> => {
    const { rssMb } = memoryOf(router.pid);
    rmSync(file, { force: true });
    router.signal("SIGUSR2");
    if (!(await comes(() => existsSync(file), 20_000))) throw new Error("the router does not tell of its memory");
    await sleep(100);
    const { heapUsed, external } = JSON.parse(readFileSync(file, "utf8")) as NodeJS.MemoryUsage;
    return { rssMib: rssMb, liveBytes: heapUsed + external };
  };
  const stop = async (): Promise<void> => {
    await router.stop();
    remove();
  };
  return { ...router, held, stop };
}
