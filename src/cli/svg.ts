/** What pictures of this program share: text, a document, and colours that colour-blind people tell apart (Okabe and Ito). */
export const COLOURS = ["#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#cc79a7", "#009e73"] as const;

export const BOLD = `font-weight="bold"`;

export const text = ([x, y]: readonly [number, number], words: string, attributes = ""): string =>
  `<text x="${x}" y="${y}" ${attributes}>${escaped(words)}</text>`;

const escaped = (words: string): string =>
  words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** @param width @param height in pixels */
export function svg(
  { width, height }: { readonly width: number; readonly height: number },
  lines: readonly string[],
): string {
  const size = `width="${width}" height="${height}" font-family="sans-serif" font-size="11"`;
  const ground = `<rect width="100%" height="100%" fill="white"/>`;
  return [`<svg xmlns="http://www.w3.org/2000/svg" ${size}>`, ground, ...lines, "</svg>", ""].join("\n");
}
