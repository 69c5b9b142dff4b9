/** Both servers under the same load, in turns: A B A B. Their picks must agree before anything is measured. */
import { buildPeer, measure, picksOf, startServers, warmUp, type Run, type Server, type Stack } from "./programs.ts";
import type { Setting, Work } from "./setting.ts";

export interface Row {
  readonly stack: Stack;
  readonly work: Work;
  readonly bodyBytes: number;
  readonly endpoints: number;
  readonly cpuMicrosPerStream: number;
  readonly streamsPerSecondPerCore: number;
  /** Null where the server got as much as it took. */
  readonly ratePerSecond: number | null;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly rssMiB: number;
}

export interface Plan {
  readonly settings: readonly Setting[];
  readonly rounds: number;
  readonly seconds: number;
  readonly rateOf: (bodyBytes: number) => number;
  /** Most requests of `pick` before the first run; those whose picks are compared come before. */
  readonly warmMost: number;
}

/** Requests in order whose picks are compared: the last 256 are under way, so loads, hits and ties all count. */
const VERIFIED = 1500;
/** Bytes of bodies before the first run counts: compilers of both have then seen the work a thousand times over. */
const WARM_BYTES = 192 * 2 ** 20;
const [WARM_LEAST, WARM_ECHO] = [200, 4000];

type Tell = (line: string) => void;

export async function compare(plan: Plan, tell: Tell): Promise<Row[]> {
  const folder = await buildPeer();
  const rows: Row[] = [];
  for (const [index, setting] of plan.settings.entries()) {
    const { work, bodyBytes, endpoints } = setting;
    const name = `${index + 1} of ${plan.settings.length}: ${work}, ${bodyBytes} bytes, ${endpoints} endpoints`;
    rows.push(...(await compareOne({ plan, folder, setting }, (line) => tell(`${name}: ${line}`))));
  }
  return rows;
}

interface One {
  readonly plan: Plan;
  readonly folder: string;
  readonly setting: Setting;
}

async function compareOne({ plan, folder, setting }: One, tell: Tell): Promise<Row[]> {
  tell("filling the indexes");
  const servers = await startServers(setting, folder);
  try {
    if (setting.work === "pick") await agree(folder, servers, tell);
    for (const server of servers) {
      server.expire();
      const requests = Math.min(
        setting.work === "pick" ? plan.warmMost : WARM_ECHO,
        Math.max(WARM_LEAST, Math.round(WARM_BYTES / setting.bodyBytes)),
      );
      await warmUp(folder, server, requests);
    }
    const rows: Row[] = [];
    for (const rate of [null, plan.rateOf(setting.bodyBytes)]) {
      const runs = await rounds({ folder, servers, rate, plan }, tell);
      rows.push(...servers.map((server) => rowOf(server, rate, runs.get(server) ?? [])));
    }
    return rows;
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

async function agree(folder: string, servers: readonly Server[], tell: Tell): Promise<void> {
  const picks = new Map<Stack, string>();
  for (const server of servers) {
    const { checksum, holderShare } = await picksOf(folder, server, VERIFIED);
    picks.set(server.stack, checksum);
    tell(`${server.stack} picks ${checksum}, ${Math.round(holderShare * 100)} % where the prefix is`);
  }
  if (new Set(picks.values()).size > 1)
    throw new Error(`the picks differ: ${[...picks].map(([stack, sum]) => `${stack} ${sum}`).join(", ")}`);
}

interface Rounds {
  readonly folder: string;
  readonly servers: readonly Server[];
  readonly rate: number | null;
  readonly plan: Plan;
}

async function rounds({ folder, servers, rate, plan }: Rounds, tell: Tell): Promise<ReadonlyMap<Server, Run[]>> {
  const runs = new Map(servers.map((server): [Server, Run[]] => [server, []]));
  for (let round = 1; round <= plan.rounds; round++)
    for (const server of servers) {
      tell(`${rate === null ? "saturated" : `${rate}/s`}, round ${round} of ${plan.rounds}, ${server.stack}`);
      runs.get(server)?.push(await measure(folder, server, { rate, seconds: plan.seconds }));
    }
  return runs;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));

/** Medians, each figure for itself. */
function rowOf(
  { stack, setting: { work, bodyBytes, endpoints } }: Server,
  rate: number | null,
  runs: readonly Run[],
): Row {
  const of = (key: keyof Run): number => median(runs.map((run) => run[key]));
  return {
    ...{ stack, work, bodyBytes, endpoints },
    cpuMicrosPerStream: rounded(of("cpuMicrosPerStream"), 1),
    streamsPerSecondPerCore: Math.round(1e6 / of("cpuMicrosPerStream")),
    ratePerSecond: rate,
    p50Ms: rounded(of("p50Ms"), 3),
    p90Ms: rounded(of("p90Ms"), 3),
    p99Ms: rounded(of("p99Ms"), 3),
    rssMiB: Math.round(of("rssMiB")),
  };
}
