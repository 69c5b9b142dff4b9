/** A thread that does as it is told when it is born: to speak on, to throw, to end, or never to return. */
import { parentPort, workerData } from "node:worker_threads";

const { way } = workerData as { way: "well" | "throws" | "ends" | "hangs" };
parentPort?.postMessage(way);
parentPort?.on("message", (message) => parentPort?.postMessage(message));
if (way === "throws")
  setTimeout(() => {
    throw new Error("a page that nobody foresaw");
  }, 20);
if (way === "ends") setTimeout(() => process.exit(3), 20);
// As long as a test lasts: its own loop never turns again.
if (way === "hangs") setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 20);
if (way === "well") setInterval(() => parentPort?.postMessage("beat"), 50);
