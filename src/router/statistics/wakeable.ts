/**
 * Which groups are started when a request for them waits, as the autoscaler said last.
 *
 * Its word stands until its next one, however long that takes: a group that was scaled to zero does not come back by
 * itself while the autoscaler is away, and neither would the requests for it. A restart of the router forgets it.
 */
import { isObject } from "../../kinds/kube.ts";
import { MAX_GROUP_MODELS, MAX_GROUPS, type WakeableGroup } from "../../kinds/statistics.ts";

/** All groups of that word may weigh so much. */
export const MAX_SCALED_BYTES = 1024 * 1024;
const MAX_NAME = 512;

export class Wakeable {
  #groups: readonly WakeableGroup[] = [];

  /** Nothing may be woken. */
  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  /** In the place of what was said before. */
  replace(groups: readonly WakeableGroup[]): void {
    this.#groups = groups;
  }

  /**
   * The group to wake for a model: the first that serves it. Undefined where none does, or where several namespaces do and
   * none is named: prompts of one must not reach another.
   * @param model undefined: the only group's, where there is one
   */
  find(model: string | undefined, namespace?: string): string | undefined {
    const inside = this.#within(namespace);
    if (model === undefined) return inside.length === 1 ? inside[0]?.group : undefined;
    const found = inside.filter(({ models }) => models.includes(model)).map(({ group }) => group);
    return new Set(found.map(namespaceOf)).size === 1 ? found[0] : undefined;
  }

  /** Every model name that may be asked for. */
  models(namespace?: string): readonly string[] {
    return this.#within(namespace).flatMap(({ models }) => models);
  }

  #within(namespace: string | undefined): readonly WakeableGroup[] {
    return namespace === undefined
      ? this.#groups
      : this.#groups.filter(({ group }) => namespaceOf(group) === namespace);
  }
}

const namespaceOf = (group: string): string => group.slice(0, group.indexOf("/"));

/** The groups of `{"groups":[{"group","models","service"}]}`; undefined where the text is not that. */
export function decodeScaled(text: string): readonly WakeableGroup[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const groups = isObject(value) ? value["groups"] : undefined;
    return Array.isArray(groups) && groups.length <= MAX_GROUPS && groups.every(isGroup)
      ? groups.map(plain)
      : undefined;
  } catch {
    return undefined;
  }
}

const plain = ({ group, models, service }: WakeableGroup): WakeableGroup => ({ group, models, service });

const isGroup = (value: unknown): value is WakeableGroup =>
  isObject(value) &&
  isName(value["group"]) &&
  /^[^/]*\/[^/]+$/.test(value["group"]) &&
  isName(value["service"]) &&
  Array.isArray(value["models"]) &&
  value["models"].length <= MAX_GROUP_MODELS &&
  value["models"].every(isName);

const isName = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= MAX_NAME;
