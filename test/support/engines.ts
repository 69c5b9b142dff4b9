/** Options of simulated engines for tests: any port on loopback, fast. */
import type { EngineOptions } from "../../src/simulator/engine/server.ts";

export const engineOptions = (more: Partial<EngineOptions> & Pick<EngineOptions, "models">): EngineOptions => ({
  host: "127.0.0.1",
  port: 0,
  connector: "nixl",
  timeScale: 20,
  ...more,
});
