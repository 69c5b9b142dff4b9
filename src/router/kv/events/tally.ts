/** Figures of all streams into metrics: what happened since they were last told, and how they are. */
import type { Metrics } from "../../../ports.ts";
import type { CacheCounts } from "./cache.ts";
import type { Follower } from "./follower.ts";
import type { StreamCounts, StreamState } from "./stream-state.ts";

const BREAKS: readonly (keyof StreamCounts)[] = ["gaps", "lost", "restarts", "duplicates", "garbage"];
const STATES: readonly StreamState[] = ["live", "replaying", "blind"];

export class Tally {
  readonly #metrics: Metrics;
  #before = { stored: 0, removed: 0, cleared: 0 };
  readonly #ignored = new Map<string, number>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  tell(followers: Iterable<Follower>, counts: CacheCounts, table: { used: number; waiting: number }): void {
    const states = { live: 0, replaying: 0, blind: 0 };
    let [bytes, full, strange] = [0, 0, 0];
    for (const { stream } of followers) {
      states[stream.sequence.state] += 1;
      bytes += stream.held.bytes;
      full += stream.held.full;
      strange += stream.strange;
      stream.held.full = stream.strange = 0;
      this.#tellBreaks(stream.sequence.counts);
    }
    for (const state of STATES) this.#metrics.gauge("tandem_router_event_streams", states[state], { state });
    this.#metrics.gauge("tandem_router_event_index_blocks", table.used);
    this.#metrics.gauge("tandem_router_event_index_bytes", bytes);
    this.#count("tandem_router_event_ignored_total", { reason: "full" }, full);
    this.#count("tandem_router_event_ignored_total", { reason: "strange" }, strange);
    this.#tellCounts(counts);
  }

  #tellBreaks(counts: StreamCounts): void {
    for (const kind of BREAKS) {
      this.#count("tandem_router_event_breaks_total", { kind }, counts[kind]);
      counts[kind] = 0;
    }
  }

  #tellCounts(counts: CacheCounts): void {
    for (const kind of ["stored", "removed", "cleared"] as const)
      this.#count("tandem_router_event_blocks_total", { kind }, counts[kind] - this.#before[kind]);
    this.#before = { stored: counts.stored, removed: counts.removed, cleared: counts.cleared };
    for (const [reason, total] of counts.ignored) {
      this.#count("tandem_router_event_ignored_total", { reason }, total - (this.#ignored.get(reason) ?? 0));
      this.#ignored.set(reason, total);
    }
  }

  #count(name: string, labels: Readonly<Record<string, string>>, by: number): void {
    if (by > 0) this.#metrics.count(name, labels, by);
  }
}
