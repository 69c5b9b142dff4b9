/** Where the harness keeps what outlives a run, and where this repository begins. Nothing is ever written into it. */
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** This folder. */
export const HARNESS: string = dirname(fileURLToPath(import.meta.url));
export const REPOSITORY: string = join(HARNESS, "..", "..", "..");

/** `$TANDEM_CACHE`, else `$XDG_CACHE_HOME/tandem`, else `~/.cache/tandem`. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { TANDEM_CACHE: own, XDG_CACHE_HOME: xdg } = environment;
  if (own !== undefined && own !== "") return own;
  return join(xdg !== undefined && xdg !== "" ? xdg : join(homedir(), ".cache"), "tandem");
}
