/** As many threads as there are cores, each with one cell at a time. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Ask, Told } from "./worker.ts";

/** Answers in the order of the questions. */
export async function onThreads(
  asks: readonly Ask[],
  told: (answer: Told, number: number) => void,
): Promise<readonly Told[]> {
  const answers: Told[] = [];
  let next = 0;
  const thread = async (): Promise<void> => {
    const worker = new Worker(new URL("./worker.ts", import.meta.url));
    try {
      for (let number = next++; number < asks.length; number = next++) {
        const answer = await ask(worker, asks[number] as Ask);
        answers[number] = answer;
        told(answer, number);
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(asks.length, availableParallelism()) }, thread));
  return answers;
}

const ask = (worker: Worker, question: Ask): Promise<Told> =>
  new Promise((resolve, reject) => {
    worker.removeAllListeners();
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.postMessage(question);
  });
