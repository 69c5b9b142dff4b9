/** The cost taken apart is the cost that was picked by: every term of it, whatever the load. */
import fc from "fast-check";
import t from "tap";
import { loadConfig } from "../../src/config/load.ts";
import { pick, type Candidate, type Pick, type PickInput } from "../../src/router/pick/pick.ts";
import { chosenTerms, termsOf, type PrefillTerms } from "../../src/router/pick/terms.ts";

const constants = loadConfig().router.cost;
const PROMPT = 4000;

const candidateOf = (role: "prefill" | "decode" | "both") =>
  fc
    .record({
      prefillMs: fc.nat({ max: 5000 }),
      inflight: fc.nat({ max: 100 }),
      pinnedTokens: fc.nat({ max: 400_000 }),
      contextTokens: fc.nat({ max: 800_000 }),
      givenMs: fc.constant(0),
      slowness: fc.double({ min: 0.2, max: 5, noNaN: true }),
      assigned: fc.nat({ max: 1000 }),
      cachedTokens: fc.nat({ max: PROMPT - 1 }),
      hostTokens: fc.nat({ max: PROMPT }),
      sharedTokens: fc.nat({ max: PROMPT }),
      group: fc.constantFrom("g", "h"),
    })
    .map(({ cachedTokens, hostTokens, sharedTokens, group, ...load }) => ({
      ...{ tiers: { cachedTokens, hostTokens, sharedTokens }, group, role },
      load: { ...load, shunnedUntil: 0 },
    }));

const input = fc.record({
  prefill: fc.array(candidateOf("prefill"), { maxLength: 6 }),
  decode: fc.array(fc.oneof(candidateOf("decode"), candidateOf("both")), { minLength: 1, maxLength: 6 }),
  policy: fc.constantFrom("cost" as const, "always" as const),
  outputTokens: fc.nat({ max: 1000 }),
});

type Drawn = typeof input extends fc.Arbitrary<infer T> ? T : never;

const madeOf = (drawn: Drawn["decode"], prefix: string): Candidate[] =>
  drawn.map(({ tiers, group, role, load }, index) => ({
    ...{ load, stats: undefined, ...tiers, capacityTokens: 500_000 },
    endpoint: {
      ...{ id: `${prefix}${index}`, address: `${prefix}${index}:80`, name: `${prefix}${index}`, namespace: "n", role },
      ...{ service: "s", group, cell: "0", instance: "i", dataParallelRank: 0, models: ["m"], bootId: "1" },
      ...{ compatibility: { connector: "nixl", engine: "vllm", tag: "", fabric: "" }, draining: false, ready: true },
    },
  }));

const inputOf = ({ prefill, decode, policy, outputTokens }: Drawn): PickInput => ({
  ...{ policy, outputTokens, constants, promptTokens: PROMPT, incompatible: () => undefined },
  prefill: madeOf(prefill, "p"),
  decode: madeOf(decode, "d"),
});

const isClose = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));
const sumOf = (terms: PrefillTerms): number =>
  Object.values<number>({ ...terms, costMs: 0 }).reduce((sum, each) => sum + each, 0);

/** Throws, so that a counterexample is looked for. */
const must = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what);
};

function pickedFrom(drawn: Drawn): { made: PickInput; chosen: Pick } {
  const made = inputOf(drawn);
  const chosen = pick(made);
  if (chosen === undefined) throw new Error("there is an endpoint");
  return { made, chosen };
}

t.test("terms add up", (t) => {
  fc.assert(
    fc.property(input, (drawn) => {
      const { made, chosen } = pickedFrom(drawn);
      const terms = termsOf(made, chosen, 100);
      for (const each of [...terms.prefill.map((row) => row.prefill), ...terms.decode.map((row) => row.local)]) {
        must(isClose(sumOf(each), each.costMs), `${sumOf(each)} and ${each.costMs}`);
        must(
          Object.values<number>({ ...each }).every((term) => term >= 0),
          JSON.stringify(each),
        );
      }
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("to the cost that was picked by, of the endpoint that was picked", (t) => {
  fc.assert(
    fc.property(input, fc.integer({ min: 1, max: 10 }), (drawn, most) => {
      const { made, chosen } = pickedFrom(drawn);
      const { decode, prefill } = termsOf(made, chosen, most);
      const [row, ...more] = decode.filter((each) => each.chosen);
      must(row?.endpoint.name === chosen.decode.endpoint.name && more.length === 0, "another is marked");
      must(isClose(row?.costMs ?? NaN, chosen.costMs), `${row?.costMs} and ${chosen.costMs}`);
      must(
        decode.every(({ costMs }) => costMs * 1.011 >= chosen.costMs),
        "another is cheaper",
      );
      must(decode.length <= most && prefill.length <= most, "more than asked for");
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("the chosen alone, as headers tell it", (t) => {
  fc.assert(
    fc.property(input, (drawn) => {
      const { made, chosen } = pickedFrom(drawn);
      const alone = chosenTerms(made, chosen).decode[0]?.costMs ?? NaN;
      must(isClose(alone, chosen.costMs), `${alone} and ${chosen.costMs}`);
    }),
    { numRuns: 300 },
  );
  t.end();
});
