/** The nearest known word to a mistyped one, for hints in errors. */

/** Distance of two short words in letters changed, added, left out, or swapped with their neighbour. */
function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  let beforeThat: readonly number[] = [];
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swap = (beforeThat[j - 2] ?? Infinity) + 1;
      const direct = isSwap(a, b, i, j) ? Math.min(substitute, swap) : substitute;
      current.push(Math.min(direct, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    [beforeThat, previous] = [previous, current];
  }
  return previous[b.length] ?? 0;
}

/** The last two of `i` letters of one word are those of `j` letters of the other, the other way round. */
const isSwap = (a: string, b: string, i: number, j: number): boolean => a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];

/** The closest of `known`, if it differs in at most a third of its letters. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const limit = (candidate: string): number => Math.max(1, Math.floor(candidate.length / 3));
  const ranked = known
    .map((candidate) => ({ candidate, away: distance(word, candidate) }))
    .filter(({ candidate, away }) => away <= limit(candidate))
    .sort((a, b) => a.away - b.away);
  return ranked[0]?.candidate;
}
