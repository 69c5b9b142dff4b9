import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { liftAction, waitAction } from "../../../src/controller/gates/writes.ts";
import { createRetries } from "../../../src/controller/retries.ts";
import { GATE } from "../../../src/kinds/names.ts";
import { changed } from "../../../src/kinds/verdict.ts";
import { pod } from "../../support/placement.ts";

const action = (key: string, content: string): Action => ({
  do: "apply",
  key,
  verdict: changed("PodGroupApplied", ""),
  about: [],
  object: { apiVersion: "v1", kind: "ConfigMap", metadata: { name: content } },
});

t.test("doubles from 1 s to 5 min for the same content; another content starts afresh", (t) => {
  const retries = createRetries();
  const a = action("a", "1");
  let now = 0;
  const waits: number[] = [];
  for (let i = 0; i < 12; i++) {
    retries.tried(a, now, 1);
    t.notOk(retries.due(a, now));
    const wait = retries.keep([a], now) ?? 0;
    waits.push(wait);
    now += wait;
    t.ok(retries.due(a, now));
  }
  t.same(waits.slice(0, 4), [1000, 2000, 4000, 8000]);
  t.equal(waits.at(-1), 300_000);
  retries.tried(a, now, 1);
  t.ok(retries.due(action("a", "2"), now));
  t.end();
});

t.test("a gate that may not be lifted is tried ever more rarely, though each patch tells another time", (t) => {
  const retries = createRetries();
  const held = pod("x", { spec: { schedulingGates: [{ name: GATE.gang }] } });
  const going = { node: "n", expression: undefined, required: false, groupName: undefined };
  const asked = (at: number): Action[] => [
    liftAction(held, { ...going, at }, changed("GateLifted", "")),
    ...waitAction(held, at),
  ];
  const tries = new Map<string, number>();
  for (let now = 0; now < 60_000; now += 1000)
    for (const action of asked(now).filter((one) => retries.due(one, now))) {
      retries.tried(action, now, 1);
      tries.set(action.key, (tries.get(action.key) ?? 0) + 1);
    }
  t.same([...tries.values()], [6, 6]);
  const moved = { ...held, metadata: { ...held.metadata, resourceVersion: "2" } };
  t.ok(retries.due(liftAction(moved, { ...going, at: 60_000 }, changed("GateLifted", "")), 60_000));
  t.end();
});

t.test("no pass comes for the sake of what is only told", (t) => {
  const retries = createRetries();
  const tell: Action = { do: "tell", key: "t", verdict: changed("PodGroupApplied", "x"), about: [] };
  retries.tried(tell, 0, 0);
  t.equal(retries.keep([tell], 100), undefined);
  t.notOk(retries.due(tell, 100));
  retries.tried(action("a", "1"), 0, 0);
  t.equal(retries.keep([tell, action("a", "1")], 100), 400);
  t.end();
});

t.test("what is no longer asked for is forgotten", (t) => {
  const retries = createRetries();
  retries.tried(action("a", "1"), 0, 0);
  t.equal(retries.keep([action("a", "1")], 100), 400);
  t.equal(retries.keep([], 100), undefined);
  t.ok(retries.due(action("a", "1"), 100));
  t.end();
});
