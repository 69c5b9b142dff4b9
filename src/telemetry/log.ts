/** Structured log on stderr: pino behind the Log port. Results belong to stdout, so lines never mix with them. */
import { destination, pino, type Logger } from "pino";
import type { Log, LogFields } from "../ports.ts";

const wrap = (logger: Logger): Log => ({
  debug: (message: string, fields: LogFields = {}) => logger.debug(fields, message),
  info: (message: string, fields: LogFields = {}) => logger.info(fields, message),
  warn: (message: string, fields: LogFields = {}) => logger.warn(fields, message),
  error: (message: string, fields: LogFields = {}) => logger.error(fields, message),
  with: (fields: LogFields) => wrap(logger.child({ ...fields })),
});

export const createLog = (level: string): Log =>
  wrap(
    pino(
      {
        level,
        base: null,
        timestamp: pino.stdTimeFunctions.isoTime,
        redact: ["authorization", "token", "password", "key"],
      },
      destination({ fd: 2, sync: true }),
    ),
  );

/** A log that says nothing: for commands that print their own results, and for tests. */
export const SILENT_LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => SILENT_LOG,
};
