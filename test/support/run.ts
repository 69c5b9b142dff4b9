/**
 * Runs the tests and sums them up: `node test/support/run.ts unit|e2e|all [FILE...]`.
 *
 * tap runs the files; this reads its TAP, shows a line a file, the whole output of a file that fails, and ends with
 * `N passed, N failed`, counting test cases.
 */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { createInterface } from "node:readline";

interface Tally {
  passed: number;
  failed: number;
}

const SETS = {
  unit: ["test/{unit,property,contract,golden}/**/*.test.ts"],
  e2e: ["test/e2e/**/*.test.ts"],
};

/** Feeds one line of TAP to the tally; prints a line at the end of each file. */
function reader(tally: Tally): (line: string) => void {
  let lines: string[] = [];
  let file: Tally = { passed: 0, failed: 0 };
  // The cause of a file's own failure (its exit code, its timeout) follows its last line, as a YAML block.
  let cause = false;
  return (line) => {
    if (cause && line.startsWith("  ")) {
      console.log(line);
      return;
    }
    cause = false;
    lines.push(line);
    const test = /^ {4}(not )?ok \d+/.exec(line);
    if (test !== null) file[test[1] === undefined ? "passed" : "failed"] += 1;
    const end = /^(not )?ok \d+ - (\S+)(?: # (.*))?/.exec(line);
    if (end === null) return;
    if (end[1] !== undefined) {
      file.failed ||= 1;
      cause = true;
      console.log(lines.join("\n"));
    }
    console.log(
      `${file.failed > 0 ? "FAIL" : "ok  "} ${String(end[2])}: ${file.passed} passed, ${file.failed} failed (${end[3] ?? ""})`,
    );
    tally.passed += file.passed;
    tally.failed += file.failed;
    lines = [];
    file = { passed: 0, failed: 0 };
  };
}

async function runTap(files: readonly string[], jobs: number, tally: Tally): Promise<void> {
  const child = spawn("tap", ["run", "--reporter=tap", `--jobs=${jobs}`, ...files], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const feed = reader(tally);
  for await (const line of createInterface({ input: child.stdout })) feed(line);
  const code = child.exitCode ?? (await new Promise<number | null>((resolve) => child.once("exit", resolve)));
  if (code !== 0 && tally.failed === 0) {
    console.log(`tap ended with ${String(code)} although no test failed`);
    tally.failed += 1;
  }
}

/** Binaries of the end-to-end tests, built or found; says on the way what it does. */
async function prepare(): Promise<boolean> {
  const child = spawn(process.execPath, ["test/e2e/cluster/prepare.ts"], { stdio: "inherit" });
  return (await new Promise<number | null>((resolve) => child.once("exit", resolve))) === 0;
}

const [set = "all", ...named] = process.argv.slice(2);
const tally: Tally = { passed: 0, failed: 0 };
const find = (patterns: readonly string[]): string[] => (named.length > 0 ? named : globSync([...patterns]).sort());

if (set !== "e2e") await runTap(find(SETS.unit), 2, tally);
if (set !== "unit") {
  if (await prepare()) await runTap(find(SETS.e2e), 1, tally);
  else tally.failed += 1;
}
if (tally.passed + tally.failed === 0) tally.failed = 1;
console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exitCode = tally.failed === 0 ? 0 : 1;
