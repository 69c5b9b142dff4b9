/**
 * Editing a JSON object in place. Bodies are never parsed and written again: numbers beyond 2^53, key order and odd
 * escapes must reach the engine as the client sent them.
 */
import { scanObject, type Member, type Scan } from "./scan.ts";

export const valueBytes = (bytes: Buffer, member: Member): Buffer => bytes.subarray(member.start, member.end);

/** Raw JSON text for a member, or undefined to take it out. */
export type Edits = ReadonlyMap<string, Uint8Array | string | undefined>;

/**
 * The same object with some members set or removed. New members go to the end. Every other byte stays, white space
 * between members but for that around a removed one included.
 */
export function editObject(bytes: Buffer, scan: Pick<Scan, "members" | "close">, edits: Edits): Buffer {
  return scan.members.some(({ key }) => edits.has(key) && edits.get(key) === undefined)
    ? rebuilt(bytes, scan, edits)
    : replaced(bytes, scan, edits);
}

/** Nothing goes: values are exchanged where they stand. */
function replaced(bytes: Buffer, { members, close }: Pick<Scan, "members" | "close">, edits: Edits): Buffer {
  const parts: Uint8Array[] = [];
  let kept = 0;
  for (const member of members) {
    const value = toBytes(edits.get(member.key));
    if (value === undefined) continue;
    parts.push(bytes.subarray(kept, member.start), value);
    kept = member.end;
  }
  const last = members.at(-1);
  parts.push(bytes.subarray(kept, last?.end ?? close), ...added(members, edits), bytes.subarray(last?.end ?? close));
  return Buffer.concat(parts);
}

/** Members are written one after the other, without the white space between them. */
function rebuilt(bytes: Buffer, { members }: Pick<Scan, "members">, edits: Edits): Buffer {
  const kept = members.filter(({ key }) => !edits.has(key) || edits.get(key) !== undefined);
  const parts: Uint8Array[] = [Buffer.from("{")];
  for (const member of kept) {
    if (parts.length > 1) parts.push(Buffer.from(","));
    const value = toBytes(edits.get(member.key)) ?? valueBytes(bytes, member);
    parts.push(bytes.subarray(member.keyStart, member.start), value);
  }
  return Buffer.concat([...parts, ...added(members, edits, kept.length), Buffer.from("}")]);
}

function added(members: readonly Member[], edits: Edits, before = members.length): Uint8Array[] {
  const present = new Set(members.map(({ key }) => key));
  const parts: Uint8Array[] = [];
  for (const [key, value] of edits) {
    const raw = toBytes(value);
    if (raw === undefined || present.has(key)) continue;
    parts.push(Buffer.from(`${before + parts.length > 0 ? "," : ""}${JSON.stringify(key)}:`), raw);
  }
  return parts;
}

const toBytes = (value: Uint8Array | string | undefined): Uint8Array | undefined =>
  typeof value === "string" ? Buffer.from(value) : value;

/** As `editObject` for bytes that hold an object, as the value of a member does. Throws ScanError. */
export const editBytes = (bytes: Buffer, edits: Edits): Buffer => editObject(bytes, scanObject(bytes), edits);
