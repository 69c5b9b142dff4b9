/**
 * Programs built from a Go module that only lists tools (`kubernetes/`, `volcano/`): pure Go, without paths, kept in
 * the cache by a hash of the module files, the link flags and the Go version.
 */
import { createHash } from "node:crypto";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { cached } from "./cache.ts";
import { HARNESS } from "./paths.ts";
import { temporaryFolder } from "./process.ts";
import { MissingTool, step, versionOf } from "./step.ts";

export interface GoModule {
  /** Folder below this one, with go.mod and go.sum. */
  readonly folder: string;
  /** Program name -> package. */
  readonly programs: Readonly<Record<string, string>>;
  readonly linkFlags: string;
  /** A dependency that is compiled with files of ours beside its own. */
  readonly amend?: Amendment;
}

export interface Amendment {
  readonly path: string;
  readonly version: string;
  /** Path inside the module -> text. */
  readonly files: Readonly<Record<string, string>>;
}

const folderOf = (module: GoModule): string => join(HARNESS, module.folder);

/** The Go version that `cwd` asks for; the go command fetches a newer toolchain by itself where it is older. */
function requireGo(): string {
  const version = versionOf("go", ["env", "GOVERSION"]);
  if (version !== undefined) return version;
  throw new MissingTool(
    "go is missing: the end-to-end tests build Kubernetes from its Go modules. Install Go 1.24 or newer " +
      "(Debian: apt-get install golang-go), or set KUBEBUILDER_ASSETS to a folder with its programs.",
  );
}

function keyOf(module: GoModule, go: string): string {
  const hash = createHash("sha256").update(go).update(module.linkFlags);
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(folderOf(module), file)));
  return hash
    .update(JSON.stringify([module.programs, module.amend]))
    .digest("hex")
    .slice(0, 16);
}

/** Folder with all programs of the module, built if it is not in the cache. Minutes when nothing is cached. */
export async function buildModule(module: GoModule): Promise<string> {
  return cached(`${module.folder}-${keyOf(module, requireGo())}`, (folder) => build(module, folder));
}

/** `go build -o FOLDER/` names a program after its package: one call for those, one for each that is called otherwise. */
async function build(module: GoModule, folder: string): Promise<void> {
  const entries = Object.entries(module.programs);
  const plain = entries.filter(([name, path]) => basename(path) === name);
  const renamed = entries.filter(([name, path]) => basename(path) !== name);
  const { folder: workspace, remove } = await workspaceOf(module);
  try {
    if (plain.length > 0) await compile(module, workspace, `${folder}/`, plain);
    for (const one of renamed) await compile(module, workspace, join(folder, one[0]), [one]);
  } finally {
    remove();
  }
}

/** Where to build: the module's own folder, or a copy of it that replaces the amended dependency. */
async function workspaceOf(module: GoModule): Promise<{ folder: string; remove: () => void }> {
  const { amend } = module;
  if (amend === undefined) return { folder: folderOf(module), remove: () => undefined };
  const workspace = temporaryFolder("tandem-go-");
  const source = join(workspace.folder, "amended");
  cpSync(await moduleSource(amend.path, amend.version), source, { recursive: true });
  // The module cache is read-only, and so is its copy.
  await step(`amending ${amend.path} ${amend.version}`, ["chmod", "-R", "u+w", source]);
  for (const [path, text] of Object.entries(amend.files)) writeFileSync(join(source, path), text);
  for (const file of ["go.mod", "go.sum"]) cpSync(join(folderOf(module), file), join(workspace.folder, file));
  const replace = `-replace=${amend.path}=./amended`;
  await step(`replacing ${amend.path}`, ["go", "mod", "edit", replace], { cwd: workspace.folder });
  return workspace;
}

async function compile(
  module: GoModule,
  cwd: string,
  output: string,
  programs: readonly [string, string][],
): Promise<void> {
  const names = programs.map(([name]) => name).join(", ");
  const packages = programs.map(([, path]) => path);
  await step(
    `building ${names} from Go modules (Kubernetes cold: about 14 minutes on two cores; warm: seconds)`,
    ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", module.linkFlags, "-o", output, ...packages],
    { cwd, env: { CGO_ENABLED: "0" } },
  );
}

/** Folder of a module's source in the module cache, downloaded if need be. */
export async function moduleSource(path: string, version: string): Promise<string> {
  requireGo();
  const text = await step(`reading ${path} ${version}`, ["go", "mod", "download", "-json", `${path}@${version}`], {
    cwd: HARNESS,
    env: { GOFLAGS: "-mod=mod" },
  });
  const { Dir: folder } = JSON.parse(text) as { Dir?: string };
  if (folder === undefined) throw new Error(`go mod download names no folder for ${path}@${version}`);
  return folder;
}
