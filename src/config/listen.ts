/** `host:port` as the configuration writes it; empty means off, an empty host means every address. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  if (text === "") return undefined;
  const at = text.lastIndexOf(":");
  const host = text.slice(0, at).replace(/^\[|\]$/g, "");
  return { host: host === "" ? "0.0.0.0" : host, port: Number(text.slice(at + 1)) };
}
