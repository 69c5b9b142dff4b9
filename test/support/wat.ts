/** The TypeScript that carries an assembled WebAssembly module. */
import wabt from "wabt";

export async function assembledBase64(text: string): Promise<string> {
  const toolkit = await wabt();
  const module = toolkit.parseWat("chain.wat", text);
  const base64 = Buffer.from(module.toBinary({}).buffer).toString("base64");
  module.destroy();
  return base64;
}

export async function assembled(text: string): Promise<string> {
  const base64 = await assembledBase64(text);
  return `/** Assembled from chain.wat by scripts/wasm.ts. */\nexport const CHAIN_WASM =\n  "${base64}";\n`;
}
