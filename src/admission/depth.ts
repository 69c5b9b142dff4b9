/** How deep JSON is nested, told from its bytes before anything is parsed. */

/** No Kubernetes object of an API that we read is nested this deep; recursive walks fail between 1000 and 5000. */
const DEEPEST = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{` differ in one bit, and so do `]` and `}`. */
const OPEN = 0x5b;
const CLOSE = 0x5d;
const CASE_BIT = 0x20;

/** The index of the quote that ends a string that begins at `start`. */
function endOfString(bytes: Uint8Array, start: number): number {
  let index = start + 1;
  while (index < bytes.length && bytes[index] !== QUOTE) index += bytes[index] === BACKSLASH ? 2 : 1;
  return index;
}

/** True where brackets are nested deeper than 64. */
export function isDeep(bytes: Uint8Array): boolean {
  let depth = 0;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    if (byte === QUOTE) index = endOfString(bytes, index);
    else if ((byte & ~CASE_BIT) === OPEN) depth++;
    else if ((byte & ~CASE_BIT) === CLOSE) depth--;
    if (depth > DEEPEST) return true;
  }
  return false;
}
