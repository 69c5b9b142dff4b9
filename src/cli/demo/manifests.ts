/** The manifests that come with the program, wherever it was installed. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../input.ts";

/** A file below `manifests/`, found by going up from the program. */
export function manifestPath(...parts: readonly string[]): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const path = join(folder, "manifests", ...parts);
    if (existsSync(path)) return path;
    if (dirname(folder) === folder)
      throw new UsageError(`manifests/${parts.join("/")} was not found beside the program; name files with -f`);
  }
}
