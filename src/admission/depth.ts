/** How deep JSON is nested and how many objects and lists it holds, told from its bytes before anything is parsed. */

/** No Kubernetes object of an API that we read is nested this deep; recursive walks fail between 1000 and 5000. */
const DEEPEST = 64;

/**
 * Objects and lists of one body. What etcd takes (1.5 MiB, old and new) holds 314,000 if it were nothing but the shortest
 * entries of managedFields; 7 MiB of `{},` would be 2.4 million, and take a second to parse.
 */
const MOST_CONTAINERS = 524288;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{` differ in one bit, and so do `]` and `}`. */
const OPEN = 0x5b;
const CLOSE = 0x5d;
const CASE_BIT = 0x20;

/** The index behind a string whose content begins at `start`. */
function afterString(bytes: Uint8Array, start: number): number {
  let index = start;
  for (let byte = bytes[index++]; byte !== QUOTE && byte !== undefined; byte = bytes[index++])
    if (byte === BACKSLASH) index++;
  return index;
}

/**
 * True where brackets are nested deeper than 64, or where there are more of them than any object has. 2 ns a byte:
 * parsing takes five times as long.
 */
export function isDeep(bytes: Uint8Array): boolean {
  const { length } = bytes;
  let depth = 0;
  let containers = 0;
  let index = 0;
  while (index < length && depth <= DEEPEST) {
    const byte = bytes[index++] as number;
    if (byte === QUOTE) index = afterString(bytes, index);
    else if ((byte & ~CASE_BIT) === OPEN) {
      depth++;
      containers++;
    } else if ((byte & ~CASE_BIT) === CLOSE) depth--;
  }
  return depth > DEEPEST || containers > MOST_CONTAINERS;
}
