/** Bundles the program into `dist/tandem.js`, and what runs on threads of its own beside it, each with its source map. */
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

// Elsewhere for a test, which must not touch what people run.
const outdir = process.argv[2] ?? new URL("../dist", import.meta.url).pathname;

/** Packages that are machine code; the Dockerfile brings exactly these. */
const NATIVE = ["tokenizers", "zeromq"];

await build({
  entryPoints: {
    tandem: new URL("../src/main.ts", import.meta.url).pathname,
    // src/cli/roles/scraping.ts looks for it under this name.
    "scrape-worker": new URL("../src/cli/roles/scrape-worker.ts", import.meta.url).pathname,
    "event-worker": new URL("../src/cli/roles/event-worker.ts", import.meta.url).pathname,
    "token-worker": new URL("../src/cli/roles/token-worker.ts", import.meta.url).pathname,
  },
  outdir,
  bundle: true,
  platform: "node",
  target: "node22",
  format: "esm",
  sourcemap: true,
  minifySyntax: true,
  logLevel: "warning",
  // Native: found beside the bundle at run time, and done without where they are not.
  external: NATIVE,
  // CommonJS packages in an ESM bundle still call require and read __dirname.
  banner: {
    js: [
      "#!/usr/bin/env node",
      // Before anything is loaded that an older Node cannot run.
      'if (Number(process.versions.node.split(".")[0]) < 22) {',
      "  console.error(`tandem: needs Node 22.19 or newer, this is ${process.version}; in a checkout, npx tandem brings its own`);",
      "  process.exit(2);",
      "}",
      'import { createRequire as __tandemRequire } from "node:module";',
      "const require = __tandemRequire(import.meta.url);",
      "const __dirname = import.meta.dirname;",
    ].join("\n"),
  },
});

// npx runs the file itself.
chmodSync(join(outdir, "tandem.js"), 0o755);
