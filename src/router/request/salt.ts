/**
 * Keeps the prefix caches of tenants apart: from the time of the first token a client can tell whether somebody sent the
 * same text before (vLLM, CVE-2025-46570).
 *
 * The salt that engines mix into their block hashes is an HMAC over the tenant, so no client can write the salt of
 * another. A salt of the client's own is mixed in: it separates within the tenant, as it did before. Salts, keys and
 * tenants are never written to a log, a metric or an answer.
 */
import { createHash, createHmac } from "node:crypto";

/** Shorter keys are refused: as many bits as the HMAC has. */
export const SALT_KEY_BYTES = 32;

/**
 * The salt for the engine, 43 characters.
 * @param own the client's, where it sent one
 */
export const tenantSalt = (key: Buffer, tenant: string, own: string | undefined): string =>
  createHmac("sha256", key)
    .update(JSON.stringify([tenant, own ?? null]))
    .digest("base64url");

export interface Separation {
  readonly model: string;
  readonly adapter: string | undefined;
  /** As the engine gets it. */
  readonly salt: string | undefined;
  readonly tenant: string;
}

/**
 * What block keys are seeded with: the same text under another seed has other keys. The model alone where nothing else
 * separates; else a digest, since a salt may be long and the hasher takes a seed of bounded length. No name of a model
 * holds a NUL, so neither form can spell the other.
 */
export function seedOf({ model, adapter, salt, tenant }: Separation): string {
  if (adapter === undefined && salt === undefined && tenant === "") return model;
  const parts = JSON.stringify([model, adapter ?? null, salt ?? null, tenant]);
  return `\0${createHash("sha256").update(parts).digest("base64url")}`;
}
