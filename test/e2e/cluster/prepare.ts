/** Gets everything the end-to-end tests run on, before they start: `node test/e2e/cluster/prepare.ts`. */
import { kubernetesBinaries, volcanoBinaries } from "./binaries.ts";
import { volcanoCrds } from "./crds.ts";
import { ENVOY_VERSIONS, envoyBinary } from "./envoy-binary.ts";
import { MissingTool } from "./step.ts";

try {
  const begun = performance.now();
  const found: Record<string, string> = { ...(await kubernetesBinaries()) };
  for (const version of ENVOY_VERSIONS) found[`envoy (${version})`] = await envoyBinary(version);
  await volcanoCrds();
  found["volcano"] = await volcanoBinaries();
  for (const [name, path] of Object.entries(found)) console.log(`${name.padEnd(24)} ${path}`);
  console.log(`end-to-end programs ready after ${Math.round((performance.now() - begun) / 1000)} s`);
} catch (error) {
  console.error("The end-to-end tests cannot run:");
  console.error(error instanceof MissingTool ? error.message : error);
  process.exitCode = 1;
}
