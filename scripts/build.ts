/** Bundles the program into `dist/tandem.js`, one file with its source map. */
import { build } from "esbuild";

await build({
  entryPoints: { tandem: new URL("../src/main.ts", import.meta.url).pathname },
  outdir: new URL("../dist", import.meta.url).pathname,
  bundle: true,
  platform: "node",
  target: "node22",
  format: "esm",
  sourcemap: true,
  minifySyntax: true,
  logLevel: "warning",
  // CommonJS packages in an ESM bundle still call require and read __dirname.
  banner: {
    js: [
      "#!/usr/bin/env node",
      'import { createRequire as __tandemRequire } from "node:module";',
      "const require = __tandemRequire(import.meta.url);",
      "const __dirname = import.meta.dirname;",
    ].join("\n"),
  },
});
