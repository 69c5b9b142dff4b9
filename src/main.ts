/** The program: the commands, and nothing before one is asked for. */
import { registerAdmit } from "./cli/admit.ts";
import { registerAutoscale } from "./cli/autoscale.ts";
import { registerCerts } from "./cli/certs.ts";
import { registerDemo } from "./cli/demo.ts";
import { registerDoctor } from "./cli/doctor.ts";
import { registerExplain } from "./cli/explain.ts";
import { runProgram, type Register } from "./cli/index.ts";
import { registerPlace } from "./cli/place.ts";
import { registerRelease } from "./cli/release.ts";
import { registerServe } from "./cli/serve.ts";
import { registerSimulate } from "./cli/simulate.ts";

const commands: readonly Register[] = [
  registerServe,
  registerAdmit,
  registerPlace,
  registerSimulate,
  registerAutoscale,
  registerDemo,
  registerRelease,
  registerDoctor,
  registerExplain,
  registerCerts,
];

process.exitCode = await runProgram(commands, process.argv);
