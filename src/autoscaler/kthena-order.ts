/**
 * Kthena's order of heterogeneous targets, for who is used to it (volcano-sh/kthena pkg/autoscaler/autoscaler/optimizer.go at
 * 3cc0572, costExpansionRatePercent 200): what each may have beyond its minimum is cut into blocks of 1, 2, 4 and so on; blocks
 * are filled by their cost, those of one cost by the order of the targets. Every type counts as equally fast.
 */
import type { Allocation, Variant } from "./variants.ts";

const EXPANSION = 2;

interface Block {
  readonly id: string;
  readonly size: number;
  readonly cost: number;
  readonly index: number;
}

/** @param count instances of the role, whatever they are */
export function kthenaArrangement(variants: readonly Variant[], count: number): Allocation {
  const of = new Map(variants.map(({ id, least }) => [id, least]));
  let left = count - variants.reduce((sum, { least }) => sum + least, 0);
  for (const { id, size } of variants.flatMap(blocksOf).sort((a, b) => a.cost - b.cost || a.index - b.index)) {
    const taken = Math.max(0, Math.min(size, left));
    of.set(id, (of.get(id) ?? 0) + taken);
    left -= taken;
  }
  return of;
}

function blocksOf({ id, least, most, cost }: Variant, index: number): readonly Block[] {
  const blocks: Block[] = [];
  let left = Math.max(0, most - least);
  for (let size = 1; left > 0; size *= EXPANSION) {
    const part = Math.min(size, left);
    blocks.push({ id, size: part, cost: cost * part, index });
    left -= part;
  }
  return blocks;
}
