/**
 * Copies the packages of machine code into `node_modules` beside the bundle, as far as this machine's platform needs them:
 * `node scripts/native.ts dist`. Without them the router does what it can without: docs/router.md, Tokens and events.
 */
import { cpSync, existsSync, rmSync } from "node:fs";
import { basename, join } from "node:path";

const [out] = process.argv.slice(2);
if (out === undefined) throw new Error("usage: node scripts/native.ts FOLDER");
const from = new URL("../node_modules", import.meta.url).pathname;
const { platform, arch } = process;

/** Files of the packages that are loaded, by the path below the package. */
const WANTED: Readonly<Record<string, (path: string) => boolean>> = {
  tokenizers: (path) => !path.endsWith(".node") || basename(path).startsWith(`tokenizers.${platform}-${arch}`),
  zeromq: (path) =>
    ["", "package.json", "lib", "build", "LICENSE.txt", "LICENSE_MPL-2.0.txt"].includes(path) ||
    path.startsWith("lib/") ||
    path === "build/manifest.json" ||
    `build/${platform}/${arch}`.startsWith(path) ||
    path.startsWith(`build/${platform}/${arch}/`),
  // The loader alone: what it builds with is not for run time.
  "cmake-ts": (path) => ["", "package.json", "LICENSE.md", "build"].includes(path) || /^build\/loader\./.test(path),
};

for (const [name, wanted] of Object.entries(WANTED)) {
  const [source, target] = [join(from, name), join(out, "node_modules", name)];
  if (!existsSync(source)) throw new Error(`${name} is not installed: npm ci`);
  rmSync(target, { recursive: true, force: true });
  cpSync(source, target, { recursive: true, filter: (path) => wanted(path.slice(source.length + 1)) });
}
