/** The tokenizing thread's own side: the newest first, errors told, silence where a prompt hangs. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { FromTokenizer, ModelState, ToTokenizer } from "../../../../src/router/tokenize/messages.ts";
import type { ModelFiles } from "../../../../src/router/tokenize/model.ts";
import { serveTokens } from "../../../../src/router/tokenize/worker.ts";

const REREAD_MS = 10_000;

/** The runner's time limit ends what never comes. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

interface Rig {
  readonly said: FromTokenizer[];
  readonly files: { version: string; broken: boolean };
  readonly clock: { ms: number };
  /** Prompts in the order in which they were begun. */
  readonly begun: string[];
  ask(id: number, text: string, model?: string): void;
  /** A timer of so many milliseconds fires. */
  fire(ms: number): Promise<void>;
}

/** Every text has the tokens [its length]; one that hangs has none, ever, and others take a turn of the loop. */
async function rig(): Promise<Rig> {
  const said: FromTokenizer[] = [];
  const files = { version: "1", broken: false };
  const clock = { ms: 0, now: () => 0, monotonic: () => clock.ms };
  const timers = new Map<number, () => void>();
  const begun: string[] = [];
  let listener: (message: unknown) => void = () => undefined;
  const load = (): ModelFiles => {
    if (files.broken) throw new Error("half a file");
    return {
      ...{ version: files.version, added: [], templates: new Map(), tokens: {} },
      encoder: {
        encode: async (text) => {
          begun.push(text);
          await (text === "hangs" ? new Promise(() => undefined) : sleep(1));
          if (text === "fails") throw new Error("no");
          return [text.length];
        },
      },
    };
  };
  serveTokens(
    { post: (message) => said.push(message as FromTokenizer), onMessage: (heard) => void (listener = heard) },
    {
      ...{ models: { m: "/m" }, cacheBytes: 1e6, clock, load, versionOf: () => files.version },
      timers: { after: () => () => undefined, every: (ms, task) => (timers.set(ms, task), () => undefined) },
    },
  );
  const fire: Rig["fire"] = async (ms) => {
    const before = said.length;
    timers.get(ms)?.();
    // Files are read in turns of their own; how things stand is said at once, or not at all.
    if (ms === REREAD_MS) await until(() => said.length > before);
  };
  await until(() => said.length > 0);
  const ask: Rig["ask"] = (id, text, model = "m") => {
    const members = [["prompt", Buffer.from(JSON.stringify(text))]] as const;
    const message: ToTokenizer = { id, model, job: { shape: "text", dialect: "vllm", scope: "", members } };
    listener(message);
  };
  return { said, files, clock, begun, ask, fire };
}

const statesOf = ({ said }: Rig): (readonly ModelState[])[] =>
  said.flatMap((message) => (message.kind === "state" ? [message.models] : []));

t.test("says what is ready; answers in tokens, or that there are none", async (t) => {
  const world = await rig();
  t.match(statesOf(world), [[{ name: "m", ready: true, segments: false, chats: false, problem: undefined }]]);
  world.ask(1, "four");
  await until(() => world.said.length === 2);
  world.ask(2, "fails");
  await until(() => world.said.length === 3);
  world.ask(3, "x", "nobody");
  await until(() => world.said.length === 4);
  t.match(world.said.slice(1), [
    { kind: "done", id: 1, ids: Int32Array.of(4) },
    { kind: "none", id: 2, why: "failed" },
    { kind: "none", id: 3, why: "failed" },
  ]);
});

t.test("the newest first", async (t) => {
  const world = await rig();
  const before = world.begun.length;
  for (const [index, text] of ["first", "second", "third", "fourth"].entries()) world.ask(index, text);
  await until(() => world.begun.length === before + 4);
  t.same(world.begun.slice(before), ["first", "fourth", "third", "second"]);
});

t.test("is silent where a prompt takes too long, so that it is replaced", async (t) => {
  const world = await rig();
  await world.fire(2000);
  t.equal(statesOf(world).length, 2);
  world.ask(1, "hangs");
  await world.fire(2000);
  t.equal(statesOf(world).length, 3, "a long prompt is none that hangs");
  world.clock.ms = 10_001;
  await world.fire(2000);
  t.equal(statesOf(world).length, 3);
});

t.test("what cannot be read leaves the last that could", async (t) => {
  const world = await rig();
  Object.assign(world.files, { version: "2", broken: true });
  await world.fire(REREAD_MS);
  t.match(statesOf(world).at(-1), [{ ready: true, problem: "half a file" }]);
  const before = world.said.length;
  world.ask(1, "four");
  await until(() => world.said.length > before);
  t.match(world.said.at(-1), { kind: "done", id: 1 });
  world.files.broken = false;
  await world.fire(REREAD_MS);
  t.match(statesOf(world).at(-1), [{ ready: true, problem: undefined }]);
});
