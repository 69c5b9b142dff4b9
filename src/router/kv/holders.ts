/** Who holds a block, in the two words of a slot: four holders, or the number of a row that has more. */

/** The last two words of a slot. */
export interface Value {
  readonly low: number;
  readonly high: number;
}

export const NOBODY: Value = { low: 0, high: 0 };
export const isNobody = ({ low, high }: Value): boolean => low === 0 && high === 0;

/** In the high word: the low word is a row of the pool. No four holders look like it. */
export const IN_ROW = -1;
/** Holders that fit into a slot, 16 bits each. */
export const INLINE = 4;

/** An endpoint and one of its eight marks, as one number. */
export const holderOf = (endpoint: number, mark: number): number => endpoint * 8 + mark;

/** The holder at one of the four places of a slot, or -1. */
export const inline = (low: number, high: number, place: number): number =>
  (((place < 2 ? low : high) >>> ((place & 1) * 16)) & 0xffff) - 1;

/** Marks of an endpoint among the holders in a slot, as bits. */
export function inlineMarks({ low, high }: Value, endpoint: number): number {
  let marks = 0;
  for (let place = 0; place < INLINE; place++) {
    const holder = inline(low, high, place);
    if (holder >= 0 && holder >> 3 === endpoint) marks |= 1 << (holder & 7);
  }
  return marks;
}

/**
 * The holders in a slot without those that the masks, where given, hide and without the endpoint's own, and with one more unless it is
 * -1; undefined where they no longer fit.
 */
export function inlineWith(value: Value, endpoint: number, added: number, live?: Uint8Array): Value | undefined {
  let low = 0;
  let high = 0;
  let place = 0;
  for (let at = 0; at <= INLINE; at++) {
    const holder = at === INLINE ? added : inline(value.low, value.high, at);
    if (holder < 0 || (at < INLINE && (holder >> 3 === endpoint || !(live === undefined || isLive(holder, live)))))
      continue;
    if (place === INLINE) return undefined;
    const bits = (holder + 1) << ((place & 1) * 16);
    if (place++ < 2) low |= bits;
    else high |= bits;
  }
  return { low, high };
}

/** The holders in a slot without these marks of an endpoint, and without those that do not live. */
export function inlineWithout({ low, high }: Value, endpoint: number, marks: number, live: Uint8Array): Value {
  let [restLow, restHigh, place] = [0, 0, 0];
  for (let at = 0; at < INLINE; at++) {
    const holder = inline(low, high, at);
    if (holder < 0 || !isLive(holder, live)) continue;
    if (holder >> 3 === endpoint && (marks & (1 << (holder & 7))) !== 0) continue;
    const bits = (holder + 1) << ((place & 1) * 16);
    if (place++ < 2) restLow |= bits;
    else restHigh |= bits;
  }
  return { low: restLow, high: restHigh };
}

export const isLive = (holder: number, live: Uint8Array): boolean =>
  ((live[holder >> 3] ?? 0) & (1 << (holder & 7))) !== 0;

/** Whether all holders in a slot live, as a slot without any does. */
export function areLive(low: number, high: number, live: Uint8Array): boolean {
  // The first alone, as most blocks have it.
  if (high === 0 && low >>> 16 === 0) return low === 0 || isLive(low - 1, live);
  for (let place = 0; place < INLINE; place++) {
    const holder = inline(low, high, place);
    if (holder >= 0 && !isLive(holder, live)) return false;
  }
  return true;
}

/** The holders in a slot and these marks of one endpoint that is not among them; undefined where they do not fit. */
export function withMarks(value: Value | undefined, endpoint: number, marks: number): Value | undefined {
  let next = value;
  for (let left = marks; left !== 0 && next !== undefined; left &= left - 1)
    next = inlineWith(next, -1, holderOf(endpoint, 31 - Math.clz32(left & -left)));
  return next;
}
