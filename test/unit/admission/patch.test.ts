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
import { patchOf } from "../../../src/admission/patch.ts";

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
  t.equal(toChange({ env: [{ name: "E", value: "theirs" }] }, item(["env"], { name: "E", value: "ours" })), undefined);
  t.equal(toChange({ list: [] }, set(["list", { name: "gone" }, "x"], 1)), undefined, "containers are never made");
  const done = change({}, set(["a"], 1));
  t.same(revert({ a: 2 }, done), { a: 2 }, "changed since");
  t.end();
});

t.test("patches: appended, replaced, removed, escaped, whole subtrees once", (t) => {
  const patch = (from: object, to: object, ...paths: string[][]): unknown => patchOf(from, to, paths).patch;
  t.same(patch({ l: [1] }, { l: [1, 2, 3] }, ["l"]), [
    { op: "add", path: "/l/-", value: 2 },
    { op: "add", path: "/l/-", value: 3 },
  ]);
  t.same(patch({ l: [1, 2] }, { l: [2] }, ["l"]), [{ op: "replace", path: "/l", value: [2] }]);
  t.same(patch({ a: { b: 1 } }, {}, ["a", "b"]), [{ op: "remove", path: "/a" }]);
  t.same(patch({ m: {} }, { m: { "a/b~c": 1 } }, ["m", "a/b~c"]), [{ op: "add", path: "/m/a~1b~0c", value: 1 }]);
  t.same(patch({}, { a: { b: 1, c: 2 } }, ["a", "b"], ["a", "c"]), [{ op: "add", path: "/a", value: { b: 1, c: 2 } }]);
  t.same(patch({ a: 1 }, { a: 1 }, ["a"]), []);
  t.end();
});

t.test("a patch that would not give the planned object is not sent", (t) => {
  t.match(patchOf({ a: 1, b: 1 }, { a: 2, b: 2 }, [["a"]]), { patch: [], unsound: { reason: "PatchUnsound" } });
  t.match(patchOf({}, JSON.parse('{"__proto__":{"x":1}}'), [["__proto__"]]), {
    patch: [],
    unsound: { reason: "PatchUnsound" },
  });
  t.end();
});
