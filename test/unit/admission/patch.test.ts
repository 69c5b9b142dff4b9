import t from "tap";
import {
  apply,
  append,
  force,
  item,
  revert,
  set,
  toChange,
  type Change,
  type Wish,
} from "../../../src/admission/change.ts";
import { patched, type Operation } from "../../../src/admission/operations.ts";
import { outsized, patchOf } from "../../../src/admission/patch.ts";

const change = (object: unknown, wish: Wish): Change => {
  const found = toChange(object, wish);
  if (found === undefined) throw new Error("nothing to do");
  return found;
};

t.test("a change is done once and can be taken out, with every container it made", (t) => {
  const object = { list: [{ name: "a" }], empty: {} };
  const wishes: Wish[] = [
    set(["x", "y", "z"], 1),
    set(["empty", "k"], "v"),
    item(["list", { name: "a" }, "env"], { name: "E", value: "1" }),
    append(["other", "terms"], [{ a: 1 }, { b: 2 }]),
  ];
  for (const wish of wishes) {
    const done = change(object, wish);
    const after = apply(object, done);
    t.same(apply(after, done), after, "twice is once");
    t.same(revert(after, done), object);
  }
  t.end();
});

t.test("the user's values stand", (t) => {
  t.equal(toChange({ a: 1 }, set(["a"], 2)), undefined);
  t.match(toChange({ a: "default" }, set(["a"], "ours", "default")), { was: "default" });
  t.match(toChange({ a: 1 }, force(["a"], 2)), { value: 2 });
  t.same(apply({ a: 1 }, change({ a: 1 }, force(["a"], 2))), { a: 2 }, "what is ours alone is written over");
  t.equal(toChange({ env: [{ name: "E", value: "theirs" }] }, item(["env"], { name: "E", value: "ours" })), undefined);
  t.equal(toChange({ list: [] }, set(["list", { name: "gone" }, "x"], 1)), undefined, "containers are never made");
  const done = change({}, set(["a"], 1));
  t.same(revert({ a: 2 }, done), { a: 2 }, "changed since");
  const added = change({ l: [{ a: 1 }] }, append(["l"], [{ b: 2 }]));
  const before = { l: [{ b: 2 }, { a: 1 }, { b: 2 }] };
  t.same(revert(before, added), { l: [{ b: 2 }, { a: 1 }] }, "of two alike the last is ours");
  t.end();
});

t.test("patches: appended, replaced, removed, escaped, whole subtrees once", (t) => {
  const patch = (from: object, to: object, ...paths: string[][]): unknown => patchOf(from, to, paths).patch;
  t.same(patch({ l: [1] }, { l: [1, 2, 3] }, ["l"]), [
    { op: "add", path: "/l/-", value: 2 },
    { op: "add", path: "/l/-", value: 3 },
  ]);
  t.same(patch({ l: [1, 2, 3, 4] }, { l: [2, 4, 5] }, ["l"]), [
    { op: "remove", path: "/l/2" },
    { op: "remove", path: "/l/0" },
    { op: "add", path: "/l/-", value: 5 },
  ]);
  t.same(patch({ l: [1, 2, 3] }, { l: [3, 2, 1] }, ["l"]), [{ op: "replace", path: "/l", value: [3, 2, 1] }]);
  t.same(patch({ a: { b: 1 } }, {}, ["a", "b"]), [{ op: "remove", path: "/a" }]);
  t.same(patch({ m: {} }, { m: { "a/b~c": 1 } }, ["m", "a/b~c"]), [{ op: "add", path: "/m/a~1b~0c", value: 1 }]);
  t.same(patch({}, { a: { b: 1, c: 2 } }, ["a", "b"], ["a", "c"]), [{ op: "add", path: "/a", value: { b: 1, c: 2 } }]);
  t.same(patch({ a: 1 }, { a: 1 }, ["a"]), []);
  t.end();
});

t.test("a patch that would not give the planned object is not sent", (t) => {
  t.match(patchOf({ a: 1, b: 1 }, { a: 2, b: 2 }, [["a"]]), { patch: [], unsound: { reason: "PatchUnsound" } });
  const shared = { l: [1, 2] };
  t.match(patchOf(shared, { l: [1, 2], more: 1 }, [["l"]]), { patch: [], unsound: { reason: "PatchUnsound" } });
  t.end();
});

t.test("a long list that changes much is sent whole, so that no patch has more than 64 operations", (t) => {
  const items = (length: number, from = 0): number[] => Array.from({ length }, (_, index) => from + index);
  const patch = (from: unknown, to: unknown): readonly unknown[] => patchOf({ l: from }, { l: to }, [["l"]]).patch;
  t.equal(patch(items(3), items(27)).length, 24);
  t.equal(patch(items(3), items(28)).length, 1);
  t.equal(patch(items(1000), items(995, 5)).length, 5);
  t.end();
});

const POINTER_KEYS = ["__proto__", "constructor", "toString", "a/b~c", "~0~1", "", "0", "-"];

t.test("keys that mean something elsewhere are plain keys, and nothing is polluted", (t) => {
  for (const key of POINTER_KEYS) {
    const to = { m: Object.fromEntries([[key, { x: 1 }]]) };
    const { patch, unsound } = patchOf({ m: {} }, to, [["m", key]]);
    t.equal(unsound, undefined, key);
    t.equal(patch.length, 1, key);
    t.ok(Object.hasOwn((patched({ m: {} }, patch) as typeof to).m, key), key);
    t.same(patched(to, [{ op: "remove", path: patch[0]?.path ?? "" }]), { m: {} }, key);
  }
  t.equal(({} as Record<string, unknown>)["x"], undefined);
  t.end();
});

t.test("operations are done as strictly as the API server does them", (t) => {
  const refused: Operation[] = [
    { op: "replace", path: "/none", value: 1 },
    { op: "remove", path: "/none" },
    { op: "remove", path: "/toString" },
    { op: "add", path: "/none/x", value: 1 },
    { op: "add", path: "/text/x", value: 1 },
    { op: "add", path: "/list/4", value: 1 },
    { op: "add", path: "/list/01", value: 1 },
    { op: "add", path: "/list/-1", value: 1 },
    { op: "replace", path: "/list/3", value: 1 },
    { op: "remove", path: "/list/-" },
    { op: "replace", path: "/list/name", value: 1 },
  ];
  const document = { text: "x", list: [1, 2, 3] };
  for (const operation of refused) t.throws(() => patched(document, [operation]), JSON.stringify(operation));
  t.same(patched(document, [{ op: "add", path: "/list/1", value: 9 }]), { text: "x", list: [1, 9, 2, 3] });
  t.same(document, { text: "x", list: [1, 2, 3] }, "the given document is not touched");
  t.end();
});

t.test("a patch larger than any should be is told of", (t) => {
  t.same(outsized(64, 32768), []);
  t.match(outsized(65, 100), [{ outcome: "warned", reason: "PatchLarge", message: /65 operations and 100 bytes/ }]);
  t.match(outsized(1, 32769), [{ reason: "PatchLarge" }]);
  t.end();
});
