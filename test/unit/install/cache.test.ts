/** The cache of the end-to-end programs: whole or not at all, made once, and never stuck behind a dead owner. */
import t from "tap";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cached } from "../../e2e/cluster/cache.ts";
import { cacheFolder } from "../../e2e/cluster/paths.ts";

t.beforeEach((t) => {
  process.env["TANDEM_CACHE"] = t.testdir();
});

t.test("the folder: ours, the desktop's, the home's", (t) => {
  t.equal(cacheFolder({ TANDEM_CACHE: "/a", XDG_CACHE_HOME: "/b" }), "/a");
  t.equal(cacheFolder({ XDG_CACHE_HOME: "/b" }), "/b/tandem");
  t.match(cacheFolder({}), /\/\.cache\/tandem$/);
  t.end();
});

t.test("what is made once is not made again, even at the same time", async (t) => {
  let made = 0;
  const make = async (folder: string): Promise<void> => {
    made += 1;
    await sleep(20);
    writeFileSync(join(folder, "program"), "");
  };
  const [one, two] = await Promise.all([cached("thing", make), cached("thing", make)]);
  t.equal(one, two);
  t.equal(made, 1);
  t.ok(existsSync(join(one, "program")));
  t.same(readdirSync(cacheFolder()), ["thing"], "no lock and no temporary folder is left");
});

t.test("a maker that fails leaves nothing, and the next one may try", async (t) => {
  const fail = async (folder: string): Promise<void> => {
    writeFileSync(join(folder, "half"), "");
    await Promise.reject(new Error("no network"));
  };
  await t.rejects(cached("thing", fail), /no network/);
  t.same(readdirSync(cacheFolder()), []);
  await cached("thing", () => Promise.resolve());
  t.ok(existsSync(join(cacheFolder(), "thing")));
});

t.test("the lock of a process that is gone is taken over", async (t) => {
  const gone = spawnSync("true").pid;
  mkdirSync(join(cacheFolder(), "thing.lock"), { recursive: true });
  writeFileSync(join(cacheFolder(), "thing.lock", "owner"), String(gone));
  await cached("thing", () => Promise.resolve());
  t.same(readdirSync(cacheFolder()), ["thing"]);
});
