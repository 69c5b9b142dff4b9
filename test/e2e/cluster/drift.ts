/**
 * What a GitOps tool sees after its own apply: the places where the stored object says something else than the manifest.
 * Fields that the manifest does not name are nobody's business; lists of named things are compared by name, others whole.
 */
import { isDeepStrictEqual } from "node:util";
import { isObject } from "../../../src/kinds/kube.ts";

export function drift(manifest: unknown, live: unknown, path = ""): string[] {
  if (Array.isArray(manifest)) return ofLists(manifest, live, path);
  if (!isObject(manifest)) return isDeepStrictEqual(manifest, live) ? [] : [path];
  if (!isObject(live)) return [path];
  return Object.keys(manifest).flatMap((key) => drift(manifest[key], live[key], `${path}/${key}`));
}

const nameOf = (value: unknown): string | undefined =>
  isObject(value) && typeof value["name"] === "string" ? value["name"] : undefined;

function ofLists(manifest: readonly unknown[], live: unknown, path: string): string[] {
  if (!Array.isArray(live)) return [path];
  if (manifest.some((value) => nameOf(value) === undefined)) return isDeepStrictEqual(manifest, live) ? [] : [path];
  return manifest.flatMap((value) =>
    drift(
      value,
      live.find((other: unknown) => nameOf(other) === nameOf(value)),
      `${path}/${nameOf(value) ?? ""}`,
    ),
  );
}
