/** KV that comes by itself: what other engines wrote into this one's memory, by the request it is for. */
export interface Arrival {
  readonly tokens: number;
  readonly digest: number;
}

/** What nobody asks for any more; the oldest goes first. */
const MOST = 4096;

export class Arrivals {
  readonly #here = new Map<string, Arrival>();

  put(id: string, arrival: Arrival): void {
    const [oldest] = this.#here.keys();
    if (this.#here.size >= MOST && oldest !== undefined) this.#here.delete(oldest);
    this.#here.set(id, arrival);
  }

  take(id: string): Arrival | undefined {
    const arrival = this.#here.get(id);
    this.#here.delete(id);
    return arrival;
  }
}
