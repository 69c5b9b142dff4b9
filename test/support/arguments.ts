/** Arguments of a benchmark: a flag that does not exist is one line and exit code 2, not a stack. */
import { parseArgs } from "node:util";

export const parsed = ((config) => {
  try {
    return parseArgs(config);
  } catch (error) {
    console.error(`${/^.*?(?=\.\s|$)/.exec((error as Error).message)?.[0] ?? ""}; try --help`);
    process.exit(2);
  }
}) as typeof parseArgs;
