import t from "tap";
import fc from "fast-check";
import { editObject, valueBytes } from "../../src/router/request/edit.ts";
import { RequestScan, scanObject, ScanError, type Scan } from "../../src/router/request/scan.ts";

const member = fc.tuple(fc.string(), fc.jsonValue({ maxDepth: 4 }));
/** A JSON object with unique keys, written with some white space. */
const object = fc
  .uniqueArray(member, { selector: ([key]) => key, maxLength: 8 })
  .chain((members) => fc.constantFrom("", " ", "\n\t").map((space) => ({ members, text: write(members, space) })));

const write = (members: readonly (readonly [string, unknown])[], space: string): string =>
  `${space}{${members.map(([key, value]) => `${space}${JSON.stringify(key)}${space}:${space}${JSON.stringify(value)}${space}`).join(",")}}${space}`;

t.test("members are found where JSON.parse finds them", (t) => {
  fc.assert(
    fc.property(object, ({ members, text }) => {
      const bytes = Buffer.from(text);
      const found = scanObject(bytes).members.map((each) => [
        each.key,
        JSON.parse(valueBytes(bytes, each).toString()) as unknown,
      ]);
      t.same(found, JSON.parse(JSON.stringify(members)));
    }),
    { numRuns: 300 },
  );
  t.end();
});

/** The result, or the words of the refusal. */
function outcome(scan: () => Scan): object | string {
  try {
    const { members, close, media } = scan();
    return { members, close, payloads: media.payloads, parts: media.parts };
  } catch (error) {
    if (error instanceof ScanError) return error.message;
    throw error;
  }
}

function inPieces(bytes: Buffer, cuts: readonly number[]): Scan {
  const scan = new RequestScan();
  for (const cut of cuts) scan.push(bytes.subarray(0, cut));
  scan.push(bytes);
  return scan.finish();
}

/** What is looked at in one go of a string. */
const WINDOW_BYTES = 65_536;

/** Names of the members by whoever reads them, or that they are refused. */
function namesBy(read: () => readonly string[]): string {
  try {
    return read().join();
  } catch {
    return "refused";
  }
}

/** Cuts at which the scan and JSON.parse differ. */
function differing(text: string): string[] {
  const bytes = Buffer.from(text);
  const near = bytes.indexOf('","b"');
  const wanted = namesBy(() => Object.keys(JSON.parse(text) as object));
  return [[], [near - 1], [100, near - 7, near - 3]]
    .filter((cuts) => namesBy(() => inPieces(bytes, cuts).members.map(({ key }) => key)) !== wanted)
    .map((cuts) => `${text.slice(-20)} of ${bytes.length}, cut at ${cuts.join()}`);
}

t.test("a string is as JSON.parse has it, in whatever a window of it ends", (t) => {
  const escapes = ["\\n", '\\"', "\\\\", "\\u00e9", "\\ud83d\\ude00", "\u00e9", "\\x", "\\u00g0", "\u0001", ""];
  for (const escape of escapes) {
    const lengths = Array.from({ length: 36 }, (_, at) => WINDOW_BYTES - 12 + at);
    const wrong = lengths.flatMap((plain) => differing(`{"a":"${"x".repeat(plain)}${escape}","b":[1]}`));
    t.same(wrong, [], JSON.stringify(escape));
  }
  t.end();
});

const picture = (more: string): string => `{"type" : "image_url","x":{"url":"data:${more.repeat(300)}"}}`;
/** JSON and what looks like it: escapes, brackets, media and cut ends in all places. */
const broken = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: object.map(({ text }) => text) },
      fc.constantFrom('{"a":', '"b"', "\\", '\\"', '"', "[", "]", "{", "}", ",", ":", "12", "true", " ", "\\u00", "é"),
      fc.constantFrom("ABCD", '\\"\\\\').map(picture),
      fc.string({ maxLength: 90 }).map((text) => `{"k":[${JSON.stringify(text)}],"data":"${"y".repeat(1100)}"}`),
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((pieces) =>
    Buffer.from(pieces.length > 1 && pieces.length < 4 ? `{"a":[${pieces.join(",")}]}` : pieces.join("")),
  );

t.test("a body cut anywhere, in any number of pieces, scans as the whole does", (t) => {
  fc.assert(
    fc.property(broken, fc.array(fc.nat(), { maxLength: 12 }), (bytes, seeds) => {
      const cuts = seeds.map((seed) => seed % (bytes.length + 1)).sort((a, b) => a - b);
      t.same(
        outcome(() => inPieces(bytes, cuts)),
        outcome(() => scanObject(bytes)),
        bytes.toString(),
      );
    }),
    { numRuns: 600 },
  );
  fc.assert(
    fc.property(broken, (bytes) => {
      const each = Array.from({ length: bytes.length }, (_, index) => index);
      t.same(
        outcome(() => inPieces(bytes, each)),
        outcome(() => scanObject(bytes)),
        bytes.toString(),
      );
    }),
    { numRuns: 100 },
  );
  t.end();
});

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

const BYTES = Array.from('{}[],:"\\/u0129-+.eEtrfn \t\0\x1fé');
/** Valid JSON with one thing changed: a byte taken out, put in or put in the place of another. */
const touched = fc.tuple(object, fc.nat(), fc.constantFrom(...BYTES), fc.nat(2)).map(([{ text }, seed, byte, how]) => {
  const at = seed % text.length;
  return Buffer.from(text.slice(0, at) + (how === 0 ? "" : byte) + text.slice(how === 1 ? at : at + 1));
});

t.test("what is nearly JSON is accepted where JSON.parse accepts it", (t) => {
  let refused = 0;
  fc.assert(
    fc.property(touched, (bytes) => {
      const accepted = typeof outcome(() => scanObject(bytes)) === "object";
      refused += accepted ? 0 : 1;
      return accepted === isObject(parsed(bytes.toString()));
    }),
    { numRuns: 6000 },
  );
  t.ok(refused > 1000);
  t.end();
});

t.test("what JSON.parse takes for an object is accepted, and nothing else", (t) => {
  let accepted = 0;
  fc.assert(
    fc.property(broken, (bytes) => {
      const scanned = outcome(() => scanObject(bytes));
      const value = parsed(bytes.toString());
      t.equal(typeof scanned === "object", isObject(value), bytes.toString());
      if (typeof scanned === "string") return;
      accepted += 1;
      // The members are the whole: written again they are the body, and each name is one that JSON.parse finds.
      const { members } = scanned as Scan;
      const again = `{${members.map((each) => `${JSON.stringify(each.key)}:${valueBytes(bytes, each).toString()}`).join(",")}}`;
      t.same(parsed(again), value, bytes.toString());
    }),
    { numRuns: 600 },
  );
  t.ok(accepted > 100);
  t.end();
});

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return "refused";
  }
}

t.test("every cut of a valid body is refused", (t) => {
  fc.assert(
    fc.property(object, fc.nat(), ({ text }, seed) => {
      const trimmed = Buffer.from(text.trim());
      const cut = trimmed.subarray(0, seed % trimmed.length);
      try {
        scanObject(cut);
        return false;
      } catch (error) {
        return error instanceof ScanError;
      }
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test("editing changes what it should and keeps every other byte", (t) => {
  fc.assert(
    fc.property(object, fc.string(), fc.jsonValue(), ({ members, text }, key, value) => {
      const bytes = Buffer.from(text);
      const scan = scanObject(bytes);
      const raw = JSON.stringify(value);
      const edited = editObject(bytes, scan, new Map([[key, raw]]));
      const after = scanObject(edited);
      const kept = members.filter(([name]) => name !== key);
      for (const [name] of kept) {
        const before = scan.members.find((each) => each.key === name)!;
        const now = after.members.find((each) => each.key === name)!;
        if (!valueBytes(edited, now).equals(valueBytes(bytes, before))) return false;
      }
      const set = after.members.find((each) => each.key === key)!;
      return valueBytes(edited, set).toString() === raw && after.members.length === kept.length + 1;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("values are exchanged where they stand: every other byte is equal, white space included", (t) => {
  fc.assert(
    fc.property(object, fc.array(fc.nat(7)), fc.jsonValue(), ({ text }, chosen, value) => {
      const bytes = Buffer.from(text);
      const scan = scanObject(bytes);
      const members = scan.members.filter((_, index) => chosen.includes(index));
      const raw = JSON.stringify(value);
      const edited = editObject(bytes, scan, new Map(members.map(({ key }) => [key, raw])));
      let wanted = "";
      let at = 0;
      for (const { start, end } of members) {
        wanted += bytes.toString("utf8", at, start) + raw;
        at = end;
      }
      t.equal(edited.toString(), wanted + bytes.toString("utf8", at));
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("numbers beyond 2^53, key order and odd escapes survive an edit", (t) => {
  const text = '{"z":12345678901234567890,"a":"\\u00e9\\/\\ud83d\\ude00","m":1e400,"stream":true}';
  const bytes = Buffer.from(text);
  const edited = editObject(bytes, scanObject(bytes), new Map([["stream", "false"]])).toString();
  t.equal(edited, text.replace("true", "false"));
  const removed = editObject(bytes, scanObject(bytes), new Map([["z", undefined]])).toString();
  t.equal(removed, text.replace('"z":12345678901234567890,', ""));
  t.end();
});

t.test("strings of quotes, backslashes and text of every length end where JSON.parse ends them", (t) => {
  const piece = fc.oneof(
    fc.constantFrom('\\"', "\\\\", "\\n", "\\u0022", "é"),
    fc.integer({ min: 1, max: 200 }).map((length) => "x".repeat(length)),
    fc.integer({ min: 1, max: 80 }).map((length) => "\\\\".repeat(length)),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const raw = `"${pieces.join("")}"`;
      const bytes = Buffer.from(`{"a":${raw},"b":[${raw},${raw}]}`);
      const [a, b] = scanObject(bytes).members;
      return valueBytes(bytes, a!).toString() === raw && valueBytes(bytes, b!).toString() === `[${raw},${raw}]`;
    }),
    { numRuns: 1000 },
  );
  t.end();
});

t.test("hostile bodies of 16 MB cost no more than a plain one", (t) => {
  const size = 16 * 1024 * 1024;
  const table: [string, Buffer][] = [
    ["escaped quotes", Buffer.from(`{"a":"${'\\"'.repeat(size / 2)}"}`)],
    ["backslashes", Buffer.from(`{"a":"${"\\\\".repeat(size / 2)}"}`)],
    ["empty strings", Buffer.from(`{"a":[${'"",'.repeat(size / 3)}""]}`)],
    ["members", Buffer.from(`{${Array.from({ length: size / 12 }, (_, i) => `"${i}":1`).join()}}`)],
  ];
  for (const [name, bytes] of table) {
    const before = process.cpuUsage();
    try {
      scanObject(bytes);
    } catch (error) {
      if (!(error instanceof ScanError)) throw error;
    }
    const { user, system } = process.cpuUsage(before);
    // A cost that grows with the square of the size takes minutes.
    t.ok(user + system < 3_000_000, `${name}: ${Math.round((user + system) / 1000)} ms`);
  }
  t.end();
});

t.test("broken JSON names the byte", (t) => {
  const table: [string, RegExp][] = [
    ["", /a JSON object was expected at byte 0/],
    ["[1]", /a JSON object was expected at byte 0/],
    ['{"a":1,}', /comma stands before the closing brace at byte 6/],
    ['{"a" 1}', /a colon was expected at byte 5/],
    ['{"a":tru}', /not a JSON value at byte 5/],
    ['{"a":01}', /not a JSON value at byte 5/],
    ['{"a":[1}', /brackets do not match at byte 7/],
    ['{"a":"x', /ends inside a string/],
    ['{"a":1} x', /text follows the closing brace at byte 8/],
    ["{a:1}", /a member name was expected at byte 1/],
    [`{"a":${"[".repeat(65)}${"]".repeat(65)}}`, /nested deeper than 64/],
    [`{${Array.from({ length: 257 }, (_, i) => `"${i}":1`).join()}}`, /more than 256 members/],
    ['{"a":"x\\"}', /ends inside a string/],
    [`{"${"k".repeat(1100)}":1}`, /a member name longer than 1024 bytes at byte 1/],
    [`{"a":${"1".repeat(401)}}`, /not a JSON value at byte 5/],
    [`{"a":${"1".repeat(400)}x}`, /not a JSON value at byte 5/],
    ['{"a":"x\\', /ends inside a string/],
  ];
  for (const [text, wanted] of table)
    t.throws(() => scanObject(Buffer.from(text)), { message: wanted }, text.slice(0, 20));
  t.end();
});
