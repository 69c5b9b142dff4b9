/** The body of a request as a value, bounded before anything is built of it. */
import { isDeep } from "./depth.ts";

/** A parsed body, or undefined where it is no JSON or nested deeper than any Kubernetes object. */
export function readBody(body: unknown): unknown {
  if (!Buffer.isBuffer(body) || isDeep(body)) return undefined;
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}
