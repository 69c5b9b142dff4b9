/**
 * Who may speak as a replica: the addresses that the configured names resolve to.
 *
 * Decides from what the last resolution found. A sender that is not among them has the names resolved once more before
 * it is refused, as a replica that just started is in DNS before it is known here; once a second for all strangers
 * together, so that they cannot make a router ask DNS without end. It never reads a message.
 */
import type { Clock } from "../../ports.ts";

/** Fresh resolutions that strangers cause come no closer than this. */
const FRESH_MS = 1000;

export class Members {
  readonly #resolve: () => Promise<readonly string[]>;
  readonly #clock: Pick<Clock, "monotonic">;
  #addresses: readonly string[] = [];
  #hosts: ReadonlySet<string> = new Set();
  #running: Promise<void> | undefined;
  #freshAt = -Infinity;

  /** @param resolve every address now, as `host:port`, IPv6 in brackets; it does not fail */
  constructor(resolve: () => Promise<readonly string[]>, clock: Pick<Clock, "monotonic">) {
    this.#resolve = resolve;
    this.#clock = clock;
  }

  /** As `host:port`. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** Resolves anew; who calls while it runs waits for the same answer. */
  refresh(): Promise<void> {
    this.#running ??= this.#renew().finally(() => (this.#running = undefined));
    return this.#running;
  }

  /** Whether a connection from this IP address is a replica's; the port of a sender says nothing. */
  async includes(remote: string | undefined): Promise<boolean> {
    const host = plain(remote ?? "");
    if (this.#hosts.has(host)) return true;
    const now = this.#clock.monotonic();
    if (now - this.#freshAt < FRESH_MS) return false;
    this.#freshAt = now;
    await this.refresh();
    return this.#hosts.has(host);
  }

  async #renew(): Promise<void> {
    this.#addresses = await this.#resolve();
    this.#hosts = new Set(this.#addresses.map((address) => plain(address.replace(/:\d+$/, ""))));
  }
}

/** Without brackets; a socket that listens on IPv6 shows IPv4 as `::ffff:10.0.0.1`. */
const plain = (host: string): string => host.replace(/^\[|\]$/g, "").replace(/^::ffff:(?=\d+\.)/i, "");
