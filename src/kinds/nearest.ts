/** The nearest known word to a mistyped one, for hints in errors. */

/** Levenshtein distance of two short words. */
function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitute, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** The closest of `known`, if it differs in at most a third of its letters. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const limit = (candidate: string): number => Math.max(1, Math.floor(candidate.length / 3));
  const ranked = known
    .map((candidate) => ({ candidate, away: distance(word, candidate) }))
    .filter(({ candidate, away }) => away <= limit(candidate))
    .sort((a, b) => a.away - b.away);
  return ranked[0]?.candidate;
}
