/** Where chains of block keys begin. */
import { seedOf } from "../../request/salt.ts";
import type { ChainPoint, TokenChain } from "./chain.ts";

/** Seeds that were met lately; a flood of salts fills it and begins it anew. */
const MOST_ROOTS = 4096;
/** Adapters of all engines. */
const MOST_ADAPTERS = 1024;

/**
 * Where chains begin: by adapter and salt, and never by model, since every engine has one model under several names and
 * holds its blocks under its own number.
 */
export class Roots {
  readonly #chain: TokenChain;
  #known = new Map<string, ChainPoint>();
  /** Names of adapters that were met. The same list until there is another. */
  adapters: readonly string[] = [];

  constructor(chain: TokenChain) {
    this.#chain = chain;
  }

  of(lora: string | undefined, salt: string | undefined): ChainPoint {
    if (lora !== undefined && this.adapters.length < MOST_ADAPTERS && !this.adapters.includes(lora))
      this.adapters = [...this.adapters, lora];
    const seed = eventSeed(lora, salt);
    const known = this.#known.get(seed);
    if (known !== undefined) return known;
    if (this.#known.size >= MOST_ROOTS) this.#known = new Map();
    const root = this.#chain.root(seed);
    this.#known.set(seed, root);
    return root;
  }
}

/** The seed of keys under which events are found: of the engine's own model and of no tenant by default. */
export const eventSeed = (adapter: string | undefined, salt: string | undefined): string =>
  adapter === undefined && salt === undefined ? "" : seedOf({ model: "", adapter, salt, tenant: "" });
