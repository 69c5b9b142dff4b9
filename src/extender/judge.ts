/**
 * One question put to thousands of nodes: what is true of many of them is decided, and put into words, once. Such a verdict
 * has no subject; the node that it is about is the caller's key.
 */
import type { Stock } from "../gang/devices.ts";
import type { Verdict } from "../kinds/verdict.ts";
import type { Domain } from "../topology/tree.ts";
import { evictionHelps, objection, outside, unknown, type Question } from "./question.ts";

export interface Refusal {
  readonly verdict: Verdict;
  /** Evicting pods would not help. */
  readonly hopeless: boolean;
}

const NOTHING: Readonly<Stock> = { all: 0, used: 0 };
/** Devices of a node: amounts below this make one key out of two. */
const MOST_DEVICES = 2 ** 20;

export class Judge {
  readonly #question: Question;
  readonly #outside = new Map<Domain, Refusal | undefined>();
  #elsewhere: Refusal | undefined;
  readonly #lacking = new Map<number, Refusal>();
  /** Where one device resource without rings is asked for, as nearly always. */
  readonly #stocks: ReadonlyMap<string, Readonly<Stock>> | undefined;
  readonly #amount: number;

  constructor(question: Question) {
    this.#question = question;
    const [[resource, amount] = ["", 0], ...more] = question.devices;
    const { ledger } = question.view;
    this.#stocks = more.length === 0 && amount > 0 && !ledger.ringed ? ledger.stocks(resource) : undefined;
    this.#amount = amount;
  }

  /** Why the pod may not go to the node; undefined where it may. */
  refusal(name: string): Refusal | undefined {
    const { ours, confines, view } = this.#question;
    const held = view.holds.isHeld(name);
    if (!ours) return held ? this.#single(name) : undefined;
    // The key itself, not its copy out of the call: all further tables find it by comparing pointers.
    const key = view.nodes.get(name)?.metadata.name;
    if (key === undefined) return { verdict: unknown(name), hopeless: true };
    const stray = confines === undefined ? undefined : this.#stray(view.tree.leafOf(key));
    return stray ?? (held || this.#stocks === undefined ? this.#single(key) : this.#plain(key, this.#stocks));
  }

  #single(name: string): Refusal | undefined {
    const verdict = objection(name, this.#question, this.#question.view.ledger);
    return verdict === undefined ? undefined : { verdict, hopeless: !evictionHelps(name, verdict, this.#question) };
  }

  /** The verdict on all nodes of a leaf that lies elsewhere. */
  #stray(leaf: Domain): Refusal | undefined {
    const known = this.#outside.get(leaf);
    if (known !== undefined || this.#outside.has(leaf)) return known;
    const verdict = outside(leaf, this.#question.confines);
    // The same for every leaf.
    const refusal = verdict === undefined ? undefined : (this.#elsewhere ??= { verdict, hopeless: true });
    this.#outside.set(leaf, refusal);
    return refusal;
  }

  /** The verdict on all nodes that have as much, and of which nothing is kept for others. */
  #plain(name: string, stocks: ReadonlyMap<string, Readonly<Stock>>): Refusal | undefined {
    const { all, used } = stocks.get(name) ?? NOTHING;
    if (all - used >= this.#amount) return undefined;
    const like = all * MOST_DEVICES + used;
    const refusal = this.#lacking.get(like) ?? this.#single(name);
    if (refusal !== undefined) this.#lacking.set(like, refusal);
    return refusal;
  }
}
