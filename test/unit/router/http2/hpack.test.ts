/** Header blocks: the examples of RFC 7541, appendix C; the encoder of node:http2 as oracle; what is broken. */
import t from "tap";
import fc from "fast-check";
import { once } from "node:events";
import { connect, type ClientHttp2Session } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer, type AddressInfo, type Server } from "node:net";
import { CODE, ConnectionError, frameOf, settingsFrame } from "../../../../src/router/http2/frames.ts";
import { HeaderDecoder, blockOf } from "../../../../src/router/http2/hpack.ts";
import { decodeHuffman } from "../../../../src/router/http2/huffman.ts";
import { Parser } from "../../../../src/router/http2/parser.ts";
import { STATIC_TABLE } from "../../../../src/router/http2/static-table.ts";
import type { HeaderList } from "../../../../src/router/headers.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const line = (text: string): [string, string] => {
  const at = text.indexOf(": ", 1);
  return [text.slice(0, at), text.slice(at + 2)];
};
const listOf = (text: string): HeaderList => text.split("\n").map((each) => line(each.trim()));

/** Blocks of one connection, and what they say. */
const EXAMPLES: Readonly<Record<string, readonly (readonly [block: string, headers: string])[]>> = {
  "C.2.1": [["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header"]],
  "C.2.2": [["040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path"]],
  "C.2.3": [["1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret"]],
  "C.2.4": [["82", ":method: GET"]],
  "C.3": [
    [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ],
    [
      "8286 84be 5808 6e6f 2d63 6163 6865",
      ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ],
    [
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
    ],
  ],
  "C.4": [
    [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ],
    [
      "8286 84be 5886 a8eb 1064 9cbf",
      ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ],
    [
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
    ],
  ],
};

t.test("appendix C", (t) => {
  for (const [name, blocks] of Object.entries(EXAMPLES)) {
    const decoder = new HeaderDecoder(65_536);
    for (const [block, headers] of blocks) t.same(decoder.decode(hex(block)).headers, listOf(headers), name);
  }
  t.end();
});

t.test("appendix C.6: a table of 256 bytes, entries that go", (t) => {
  const decoder = new HeaderDecoder(65_536);
  decoder.decode(hex("3fe1 01"));
  const blocks: readonly (readonly [string, string])[] = [
    [
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ],
    [
      "4883 640e ffc1 c0bf",
      ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ],
    [
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
      ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
  ];
  for (const [block, headers] of blocks) t.same(decoder.decode(hex(block)).headers, listOf(headers));
  t.end();
});

t.test("the same block twice: remembered where it leaves the table alone, read anew where it does not", (t) => {
  const decoder = new HeaderDecoder(65_536);
  const adds = hex("4001 6101 62");
  decoder.decode(adds);
  t.equal(decoder.decode(hex("be")), decoder.decode(hex("be")), "one index: the same list");
  decoder.decode(hex("4001 6301 64"));
  decoder.decode(adds);
  decoder.decode(adds);
  t.same(decoder.decode(hex("be bf c0")).headers, [
    ["a", "b"],
    ["a", "b"],
    ["c", "d"],
  ]);
  t.end();
});

const BROKEN: Readonly<Record<string, string>> = {
  "index 0": "80",
  "an index beyond the table": "be",
  "an integer without end": "ff",
  "an integer of many empty bytes": `ff${"80".repeat(500)}00`,
  "an integer too large": "ff ff ff ff ff 0f",
  "a text cut short": "00 05 61",
  "a value that is not there": "00 01 61",
  "a length beyond the block": "00 7f ff ff 7f",
  "Huffman padding of zeros": "00 81 18 00",
  "Huffman padding of a byte": "00 82 1f ff 00",
  "Huffman EOS": "00 84 ff ff ff ff 00",
  "a table larger than announced": "3f e2 1f",
  "a change of the table behind a header": "82 20",
};

t.test("what is broken ends the connection", (t) => {
  for (const [name, block] of Object.entries(BROKEN))
    t.throws(() => new HeaderDecoder(65_536).decode(hex(block)), { code: CODE.compression }, name);
  t.end();
});

t.test("more headers than are taken: none, and the table goes on", (t) => {
  const decoder = new HeaderDecoder(200);
  const big = decoder.decode(Buffer.concat([hex("40 01 61 01 62"), blockOf([["x", "y".repeat(200)]])]));
  t.match(big, { tooLarge: true, headers: [] });
  t.same(decoder.decode(hex("be")).headers, [["a", "b"]]);
  t.end();
});

t.test("the Huffman code is whole: every byte has one, and no other is missing", (t) => {
  t.equal(STATIC_TABLE.length, 61);
  t.equal(decodeHuffman(Buffer.alloc(0)), "");
  t.equal(decodeHuffman(hex("f1e3 c2e5 f23a 6ba0 ab90 f4ff")), "www.example.com");
  t.end();
});

t.test("blocks that are written are read", (t) => {
  const text = fc.string({ unit: "binary", maxLength: 300 }).map((each) => Buffer.from(each).toString("latin1"));
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text), { maxLength: 20 }), (headers) => {
      t.same(new HeaderDecoder(1e6).decode(blockOf(headers)).headers, headers);
    }),
    { numRuns: 200 },
  );
  t.end();
});

/** Takes header blocks of a client as they come. */
class Oracle {
  readonly seen: HeaderList[] = [];
  readonly #server: Server;
  session: ClientHttp2Session | undefined;

  constructor(tableBytes: readonly number[]) {
    this.#server = createServer((socket) => {
      // What the peer's encoder may use changes as we tell it, up to what the decoder takes.
      socket.write(settingsFrame([]));
      for (const bytes of tableBytes) socket.write(settingsFrame([[1, bytes]]));
      const decoder = new HeaderDecoder(1e6);
      let block = Buffer.alloc(0);
      const parser = new Parser({
        frame: ({ type, flags, payload }) => {
          if (type === 4 && (flags & 1) === 0) socket.write(frameOf(4, 1, 0, Buffer.alloc(0)));
          if (type !== 1 && type !== 9) return;
          block = Buffer.concat([block, payload]);
          if ((flags & 4) === 0) return;
          this.seen.push(decoder.decode(block).headers);
          block = Buffer.alloc(0);
        },
        bodyBegin: () => undefined,
        body: () => undefined,
        bodyEnd: () => undefined,
      });
      socket.on("error", () => undefined);
      socket.on("data", (chunk) => parser.push(chunk));
    }).listen(0, "127.0.0.1");
  }

  async open(): Promise<ClientHttp2Session> {
    await once(this.#server, "listening");
    const { port } = this.#server.address() as AddressInfo;
    this.session = connect(`http://127.0.0.1:${port}`, { settings: { enablePush: false } });
    this.session.on("error", () => undefined);
    await once(this.session, "remoteSettings");
    return this.session;
  }

  close(): void {
    this.session?.destroy();
    this.#server.close();
  }
}

const NAME = fc.stringMatching(/^x-[a-z0-9-]{1,12}$/);
const VALUE = fc.oneof(
  fc.constantFrom("", "application/grpc", "no-cache", "gzip, deflate", "a".repeat(3000)),
  fc.stringMatching(/^[!-~]{0,60}$/),
  fc.stringMatching(/^[\x80-\xff]{1,20}$/),
);
const NAMES = fc.oneof(fc.constantFrom("content-type", "user-agent", "cookie", "authorization", "accept"), NAME);

for (const tableBytes of [[], [0], [64], [64, 4096], [200]])
  t.test(`node:http2 encodes, we decode: tables of ${tableBytes.join(", ") || "4096"} bytes`, async (t) => {
    const oracle = new Oracle(tableBytes);
    const session = await oracle.open();
    const lists = fc.sample(fc.uniqueArray(fc.tuple(NAMES, VALUE), { maxLength: 12, selector: ([name]) => name }), {
      numRuns: 250,
      seed: 7541,
    });
    for (const list of lists) {
      const stream = session.request({ ":path": "/p", ...Object.fromEntries(list) }, { endStream: false });
      stream.on("error", () => undefined);
      stream.close(8);
    }
    for (let tries = 0; tries < 500 && oracle.seen.length < lists.length; tries++) await sleep(10);
    const own = oracle.seen.map((headers) => headers.filter(([name]) => !name.startsWith(":")));
    t.same(own, lists);
    t.ok(oracle.seen.every((headers) => headers.some(([name, value]) => name === ":path" && value === "/p")));
    oracle.close();
  });

t.test("random bytes are read or refused", (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HeaderDecoder(4096);
      try {
        for (const block of blocks) decoder.decode(Buffer.from(block));
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
      }
    }),
    { numRuns: 20_000 },
  );
  t.end();
});
