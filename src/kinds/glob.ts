/** Patterns of names, as operators write them in lists: `*` stands for any run of characters, everything else for itself. */

/** True where the whole text fits. Linear in its length: each piece is looked for once, from the left. */
export function globMatches(pattern: string, text: string): boolean {
  const [first = "", ...pieces] = pattern.split("*");
  const last = pieces.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const piece of pieces) {
    const found = text.indexOf(piece, at);
    if (found === -1) return false;
    at = found + piece.length;
  }
  return text.length - last.length >= at && text.endsWith(last);
}
