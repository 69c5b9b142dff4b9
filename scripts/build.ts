/** Bundles the program into `dist/tandem.js`, one file with its source map. */
import { build, type Plugin } from "esbuild";

/** The generated models of the Kubernetes client have no side effects, although its package does not say so: 15 MB less. */
const shakeClient: Plugin = {
  name: "shake-kubernetes-client",
  setup: (plugins) => {
    plugins.onResolve({ filter: /./ }, async (args) => {
      if (args.pluginData === "resolved" || !args.resolveDir.includes("@kubernetes/client-node")) return undefined;
      const { path, external, errors } = await plugins.resolve(args.path, {
        resolveDir: args.resolveDir,
        kind: args.kind,
        importer: args.importer,
        pluginData: "resolved",
      });
      return { path, external, errors, sideEffects: path.endsWith("package.json") };
    });
  },
};

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
  plugins: [shakeClient],
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
