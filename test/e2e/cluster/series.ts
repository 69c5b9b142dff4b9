/** What a role says of itself at `/metrics`. */

/** Value of a series whose labels contain all of `parts`; 0 where there is none. */
export async function metric(url: string, name: string, ...parts: string[]): Promise<number> {
  const lines = (await (await fetch(url)).text()).split("\n");
  const found = lines.filter(
    (line) =>
      (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) && parts.every((part) => line.includes(part)),
  );
  return found.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}
