/**
 * Things made once and kept: each is a folder of the cache that appears whole or not at all.
 *
 * A maker works in a temporary folder that is renamed when it is done, under a lock that two runs share; a lock whose
 * owner has died is taken over.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cacheFolder } from "./paths.ts";

const LOCK_POLL_MS = 500;
/** A lock without a readable owner is either half a second old or abandoned. */
const OWNERLESS_POLLS = 20;

/** The folder `name` of the cache, made by `make` if it is not there yet. */
export async function cached(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder(), name);
  if (existsSync(folder)) return folder;
  mkdirSync(cacheFolder(), { recursive: true });
  const release = await lock(`${folder}.lock`);
  try {
    if (!existsSync(folder)) await publish(folder, make);
    return folder;
  } finally {
    release();
  }
}

async function publish(folder: string, make: (folder: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.making-${process.pid}`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  try {
    await make(temporary);
    renameSync(temporary, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Takes the lock, waiting for its owner as long as that lives; returns its release. */
async function lock(path: string): Promise<() => void> {
  let ownerless = 0;
  for (let told = false; !tryLock(path);) {
    const owner = ownerOf(path);
    ownerless = owner === undefined ? ownerless + 1 : 0;
    if (ownerless > OWNERLESS_POLLS || (owner !== undefined && !alive(owner))) {
      rmSync(path, { recursive: true, force: true });
      continue;
    }
    if (!told && owner !== undefined)
      console.error(`waiting for process ${owner}, which is making ${path.slice(0, -5)}`);
    told ||= owner !== undefined;
    await sleep(LOCK_POLL_MS);
  }
  return () => rmSync(path, { recursive: true, force: true });
}

function tryLock(path: string): boolean {
  try {
    mkdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
  writeFileSync(join(path, "owner"), String(process.pid));
  return true;
}

function ownerOf(path: string): number | undefined {
  try {
    const owner = Number(readFileSync(join(path, "owner"), "utf8"));
    return Number.isInteger(owner) && owner > 0 ? owner : undefined;
  } catch {
    return undefined;
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
