/** `router.events` of the configuration: the KV events that engines publish. */
import Type from "typebox";
import { closed, flag, integer } from "./fields.ts";

export const KvEvents = Type.Object(
  {
    enabled: flag(true, "Follow the KV events of engines that publish them; else the routing history alone decides."),
    probe: flag(true, "Try port 5557 of engines of which nobody says whether they publish, less and less often."),
    blockTokens: integer(
      16,
      1,
      4096,
      "Tokens of a block in the index of events; engines' blocks may be larger or smaller.",
    ),
    maxBytes: integer(
      134217728,
      1048576,
      8589934592,
      "Memory for what events tell; 128 MiB hold 1.4 million blocks of all engines together.",
    ),
    maxBlocksPerSecond: integer(
      200000,
      100,
      10000000,
      "Blocks that one engine may tell of in a second; beyond, it is read more slowly.",
    ),
    speculateMs: integer(
      3000,
      0,
      60000,
      "A prompt that was just sent to an endpoint is taken to be there for so long, until an event says so.",
    ),
    poolMs: integer(
      600000,
      1000,
      86400000,
      "What is stored in a shared pool that never says what it removes is believed for so long.",
    ),
  },
  { ...closed, description: "KV events of engines." },
);
