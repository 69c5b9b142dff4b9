/** What one pair of servers is started with, in Tandem's words and in the peer's. */
import { UNTRUSTED_HEADERS, HEADER } from "../../../src/kinds/names.ts";
import type { ContentSpec } from "./content.ts";
import { benchConfig, capacityBlocks } from "./world.ts";

export const WORKS = ["echo", "pick"] as const;
export type Work = (typeof WORKS)[number];

export interface Setting extends ContentSpec {
  /** `echo`: the protocol alone. `pick`: all that a request takes. */
  readonly work: Work;
}

/** The peer's configuration: what it must do alike comes from ours. */
export function peerConfig(setting: Setting): object {
  const { index, cost, maxInflightPerEndpoint, maxStreams, maxBodyBytes } = benchConfig(setting);
  const { work, ...spec } = setting;
  return {
    ...spec,
    echo: work === "echo",
    capacityBlocks: capacityBlocks(setting),
    blockBytes: index.blockBytes,
    bytesPerToken: index.bytesPerToken,
    maxInflight: maxInflightPerEndpoint,
    maxStreams,
    maxBodyBytes,
    costs: cost,
    removedHeaders: UNTRUSTED_HEADERS.filter((name) => name !== HEADER.destination),
  };
}
