/**
 * The command table. Commands print what pure functions return: results on stdout, progress and errors on stderr.
 * Exit codes: 0 as wanted, 1 refused or failed, 2 bad usage or unreadable input. What fails says so in one line, with
 * `TANDEM_LOG_LEVEL=debug` with its stack.
 */
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config/load.ts";
import { processEnvironment, UsageError } from "./input.ts";

/** A command registers itself on the program and sets the exit code through `exit`. */
export type Register = (program: Command, exit: (code: number) => void) => void;

export async function runProgram(commands: readonly Register[], argv: readonly string[]): Promise<number> {
  let code = 0;
  const program = new Command("tandem")
    .description("Prefill and decode, in tandem, on plain Kubernetes Deployments.")
    .version("0.1.0")
    .exitOverride()
    .showHelpAfterError();
  for (const register of commands) register(program, (value) => (code = value));
  for (const command of program.commands) command.exitOverride();
  try {
    await program.parseAsync([...argv]);
    return code;
  } catch (error) {
    return exitCodeOf(error);
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  process.stderr.write(`tandem: ${describe(error)}\n`);
  return error instanceof ConfigError || error instanceof UsageError ? 2 : 1;
}

/** One line for people; the stack is for whoever asks for it. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return processEnvironment()["TANDEM_LOG_LEVEL"] === "debug" ? (error.stack ?? error.message) : error.message;
}
