/** Sends mutants through the router and tells what became of them. */
import { seededRandom } from "../../src/simulator/random.ts";
import { header, Routing } from "./routing.ts";
import { mutant, plainModel } from "./mutants.ts";

export interface Mutation {
  readonly sent: number;
  readonly forwarded: number;
  readonly byStatus: Readonly<Record<string, number>>;
  /** What must not be, the first few: picks on a model that is not plain, other statuses, throws. */
  readonly wrong: readonly string[];
  readonly wrongs: number;
  readonly crashes: number;
  /** CPU of the slowest one, in milliseconds. */
  readonly worstMs: number;
}

const ADDRESSES: Readonly<Record<string, string>> = { m: "127.0.0.1:1", n: "127.0.0.1:2" };
const STATUSES = new Set([400, 404, 413, 415]);
const SHOWN = 5;

class Tally {
  sent = 0;
  forwarded = 0;
  crashes = 0;
  worstMs = 0;
  wrongs = 0;
  readonly byStatus: Record<string, number> = {};
  readonly wrong: string[] = [];

  fail(what: string): void {
    this.wrongs += 1;
    if (this.wrong.length < SHOWN) this.wrong.push(what);
  }
}

export async function mutate(
  seed: number,
  count: number,
  progress: (sent: number) => void = () => undefined,
): Promise<Mutation> {
  const random = seededRandom(seed).next;
  const endpoints = Object.fromEntries(Object.entries(ADDRESSES).map(([model, address]) => [address, { model }]));
  const routing = new Routing({ endpoints });
  const tally = new Tally();
  while (tally.sent < count) {
    await one(routing, random, tally);
    if (tally.sent % 100_000 === 0) progress(tally.sent);
  }
  return tally;
}

async function one(routing: Routing, random: () => number, tally: Tally): Promise<void> {
  const { kind, path, headers, body } = mutant(random);
  const cuts = random() < 0.5 ? [0.3, random()].map((share) => Math.floor(share * body.length)) : undefined;
  const shown = `${path} ${kind}: ${body.toString("latin1", 0, 300)}`;
  tally.sent += 1;
  const before = process.cpuUsage();
  try {
    const routed = await routing.route({ path, headers, body, ...(cuts === undefined ? {} : { cuts }) });
    const { user, system } = process.cpuUsage(before);
    tally.worstMs = Math.max(tally.worstMs, (user + system) / 1000);
    if (routed.kind === "answer") answered(routed.status, shown, tally);
    else forwarded(header(routed.requestHeaders, "x-gateway-destination-endpoint"), { body, shown }, tally);
  } catch (error) {
    tally.crashes += 1;
    tally.fail(`${shown}: ${String(error)}`);
  }
}

function answered(status: number, shown: string, tally: Tally): void {
  tally.byStatus[status] = (tally.byStatus[status] ?? 0) + 1;
  if (!STATUSES.has(status)) tally.fail(`${shown}: status ${status}`);
}

/** A pick stands on a model that every reader of the body finds there. */
function forwarded(
  destination: string | undefined,
  { body, shown }: { body: Buffer; shown: string },
  tally: Tally,
): void {
  tally.forwarded += 1;
  const model = plainModel(body) ?? "";
  if (ADDRESSES[model] !== destination)
    tally.fail(`${shown}: sent to ${destination ?? "nowhere"} for model "${model}"`);
}
