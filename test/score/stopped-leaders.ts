/**
 * Teams of two processes that compete for Leases of short times and write all the while; of each team the one that leads
 * is stopped (SIGSTOP), the other takes over and writes, and the first goes on (SIGCONT): again and again, all teams at
 * once.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { seededRandom } from "../../src/simulator/random.ts";
import type { LeaseTimes } from "../../src/cluster/lease.ts";
import type { Random } from "../../src/ports.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { labelledDeployment } from "../e2e/cluster/load.ts";
import { eventually, startProcess, type Running } from "../e2e/cluster/process.ts";
import { skewed } from "../support/skewed-clock.ts";
import { AIMED_WITHIN_MS, type LeadingOptions, type LeadingReport } from "./leading.ts";

const PROCESS = fileURLToPath(new URL("leading-process.ts", import.meta.url));
const SYSTEM = "tandem-system";
/** Of the objects that are scaled; a Deployment's name begins with its Lease's. */
const NAMESPACE = "stopped";
const DEPLOYMENTS = 2;
/** A Lease tells its duration in whole seconds: two are the shortest with room for a late renewal. */
export const SHORT_TIMES: LeaseTimes = { durationMs: 2000, renewMs: 1400, retryMs: 400 };
const INTERVAL_MS = 200;

export interface TeamsOptions {
  readonly teams: number;
  /** Leases of a team: each stop is a run for every one that the stopped process held. */
  readonly leases: number;
  readonly runs: number;
  /** Of the wall clocks of a team's processes, in milliseconds. */
  readonly skewMs: readonly number[];
  readonly seed: number;
  readonly onRuns: (runs: number) => void;
}

export interface TeamsReport extends LeadingReport {
  readonly runs: number;
  readonly stops: number;
  /** Of them, in the moment between a check and what was to follow it. */
  readonly aimed: number;
}

interface Member {
  readonly identity: string;
  readonly running: Running;
}

interface Team {
  readonly members: readonly Member[];
  readonly leases: readonly string[];
  readonly random: Random;
}

interface Tally {
  runs: number;
  stops: number;
  aimed: number;
}

export async function stopLeaders(cluster: Cluster, options: TeamsOptions): Promise<TeamsReport> {
  await prepare(cluster, options);
  const indices = Array.from({ length: options.teams }, (_, index) => index);
  const teams = await Promise.all(indices.map((index) => startTeam(cluster, options, index)));
  const tally: Tally = { runs: 0, stops: 0, aimed: 0 };
  const members = teams.flatMap((team) => team.members);
  try {
    await Promise.all(teams.map((team) => cycles(cluster, team, { options, tally })));
    for (const { running } of members) await running.stop();
    const reports = members.map(({ running }) => JSON.parse(running.tail().trim()) as LeadingReport);
    const sum = (of: keyof LeadingReport): number => reports.reduce((all, report) => all + report[of], 0);
    return { ...tally, inFlight: sum("inFlight"), withheld: sum("withheld"), reading: sum("reading") };
  } finally {
    for (const { running } of members) await running.kill();
  }
}

const leasesOf = ({ leases }: TeamsOptions, team: number): string[] =>
  Array.from({ length: leases }, (_, index) => `team-${team}-${index}`);

/** Of a Deployment, or of an Event on one. */
export const shortLeaseOf = (name: string): string | undefined => /^team-\d+-\d+(?=\.)/.exec(name)?.[0];

async function prepare(cluster: Cluster, options: TeamsOptions): Promise<void> {
  const leases = Array.from({ length: options.teams }, (_, team) => leasesOf(options, team)).flat();
  await cluster.must(["create", "namespace", NAMESPACE]);
  const role = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: "short-leases", namespace: SYSTEM } };
  const rule = { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "patch"] };
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "short-leases" };
  const subjects = [{ kind: "ServiceAccount", name: "tandem-autoscaler", namespace: SYSTEM }];
  await cluster.apply([
    { ...role, kind: "Role", rules: [{ ...rule, resourceNames: leases }] },
    { ...role, kind: "RoleBinding", roleRef, subjects },
  ]);
  for (const lease of leases)
    for (let index = 0; index < DEPLOYMENTS; index++)
      await cluster.api.post(
        `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`,
        labelledDeployment(`${lease}.${index}`, { "tandem.sh/model": lease, "tandem.sh/role": "decode" }),
      );
}

async function startTeam(cluster: Cluster, options: TeamsOptions, index: number): Promise<Team> {
  const leases = leasesOf(options, index);
  const members: Member[] = [];
  for (const [place, skewMs] of options.skewMs.entries()) {
    const identity = `team-${index}-member-${place}`;
    const seed = options.seed + 100 * index + place;
    const given: LeadingOptions = {
      ...{ identity, leases, seed, namespace: NAMESPACE, leaseNamespace: SYSTEM },
      ...{ times: SHORT_TIMES, intervalMs: INTERVAL_MS },
      kubeconfig: await cluster.kubeconfigFor(SYSTEM, "tandem-autoscaler"),
    };
    const program = { name: identity, command: process.execPath, args: [PROCESS, JSON.stringify(given)] };
    const running = startProcess({ ...program, folder: cluster.folder, environment: skewed(skewMs) });
    members.push({ identity, running });
  }
  return { members, leases, random: seededRandom(options.seed + index) };
}

/** Holder of each Lease. */
async function holders(cluster: Cluster, team: Team): Promise<ReadonlyMap<string, string>> {
  const path = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases`;
  const held = (await cluster.api.list(path)).map(({ metadata, ...lease }): [string, string] => {
    const { holderIdentity = "" } = (lease as unknown as { spec: { holderIdentity?: string } }).spec;
    return [metadata.name ?? "", holderIdentity];
  });
  return new Map(held.filter(([name]) => team.leases.includes(name)));
}

interface Cycling {
  readonly options: TeamsOptions;
  readonly tally: Tally;
}

async function cycles(cluster: Cluster, team: Team, { options, tally }: Cycling): Promise<void> {
  await eventually("every Lease of a team is held", async () =>
    (await holders(cluster, team)).size === team.leases.length ? true : undefined,
  );
  while (tally.runs < options.runs) {
    await sleep(300 + 900 * team.random.next());
    const held = await holders(cluster, team);
    const leader = mostOf(team, held);
    const aimed = await stop(leader, team.random);
    const lost = await takenOver(cluster, team, leader);
    await sleep(200 + 600 * team.random.next());
    process.kill(leader.running.pid, "SIGCONT");
    tally.stops += 1;
    tally.aimed += Number(aimed);
    tally.runs += lost;
    options.onRuns(tally.runs);
  }
  // What went on last is given time to do wrong.
  await sleep(SHORT_TIMES.durationMs);
}

function mostOf({ members, leases }: Team, held: ReadonlyMap<string, string>): Member {
  const count = ({ identity }: Member): number => leases.filter((lease) => held.get(lease) === identity).length;
  return members.toSorted((one, other) => count(other) - count(one))[0] as Member;
}

const AIMS = ["SIGUSR2", "SIGHUP", undefined, undefined] as const;

/** At once, or by itself at the moment that it was told; whether the latter came. */
async function stop({ running }: Member, random: Random): Promise<boolean> {
  const aim = AIMS[Math.floor(random.next() * AIMS.length)];
  if (aim !== undefined) process.kill(running.pid, aim);
  const until = performance.now() + AIMED_WITHIN_MS;
  while (aim !== undefined && performance.now() < until) {
    if (isStopped(running.pid)) return true;
    await sleep(20);
  }
  process.kill(running.pid, "SIGSTOP");
  while (!isStopped(running.pid)) await sleep(1);
  return false;
}

/** State `T` of proc(5). */
const isStopped = (pid: number): boolean => / T /.test(readFileSync(join("/proc", String(pid), "stat"), "utf8"));

/** How many Leases the stopped process held; resolves when others hold them all. */
async function takenOver(cluster: Cluster, team: Team, { identity }: Member): Promise<number> {
  const owned = async (): Promise<number> =>
    [...(await holders(cluster, team)).values()].filter((holder) => holder === identity).length;
  const lost = await owned();
  await eventually(`others hold what ${identity} held`, async () => ((await owned()) === 0 ? true : undefined));
  return lost;
}
