/**
 * Composition root: configuration -> ports -> adapters -> roles. The only file that knows everything.
 */
import { runProgram, type Register } from "./cli/index.ts";

const commands: readonly Register[] = [];

process.exitCode = await runProgram(commands, process.argv);
