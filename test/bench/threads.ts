/** As many threads as there are cores, each with one question at a time. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

/** What threads run, and who is told of each answer as it comes. */
export interface Threads<T> {
  /** A module that answers each message with one of its own. */
  readonly worker: URL;
  readonly told: (answer: T, number: number) => void;
}

/** Answers in the order of the questions. */
export async function onThreads<T>(
  asks: readonly unknown[],
  { worker: module, told }: Threads<T>,
): Promise<readonly T[]> {
  const answers: T[] = [];
  let next = 0;
  const thread = async (): Promise<void> => {
    const worker = new Worker(module);
    try {
      for (let number = next++; number < asks.length; number = next++) {
        const answer = (await ask(worker, asks[number])) as T;
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

const ask = (worker: Worker, question: unknown): Promise<unknown> =>
  new Promise((resolve, reject) => {
    worker.removeAllListeners();
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.postMessage(question);
  });
