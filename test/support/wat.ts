/** The TypeScript that carries an assembled WebAssembly module. */
import wabt from "wabt";

export async function assembledBase64(text: string): Promise<string> {
  const toolkit = await wabt();
  const module = toolkit.parseWat("module.wat", text, { simd: true });
  const base64 = Buffer.from(module.toBinary({}).buffer).toString("base64");
  module.destroy();
  return base64;
}

/** `name`: of the source, without its ending; the constant is named after it. */
export async function assembled(name: string, text: string): Promise<string> {
  const base64 = await assembledBase64(text);
  return `/** Assembled from ${name}.wat by scripts/wasm.ts. */\nexport const ${name.toUpperCase()}_WASM =\n  "${base64}";\n`;
}
