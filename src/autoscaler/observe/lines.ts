/** Lines of JSON that come in pieces. */

/** A line names one group; a peer that sends more without an end sends something else. */
const MAX_LINE = 4096;

/** Gives whole lines; what is not ended yet waits. Throws where a line grows too long. */
export class Lines {
  #rest = "";

  push(chunk: string): readonly string[] {
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE) throw new Error(`a line is longer than ${MAX_LINE} characters`);
    return lines.filter((line) => line !== "");
  }
}

/** The group of a line `{"group"}`; undefined for one that only says that somebody is there. */
export function wokenGroup(line: string): string | undefined {
  const value = JSON.parse(line) as { readonly group?: unknown } | null;
  return typeof value?.group === "string" ? value.group : undefined;
}
