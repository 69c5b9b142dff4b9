/** `router.explain`: which picks can be asked for afterwards. */
import Type from "typebox";
import { closed, integer, number } from "./fields.ts";

export const ExplainPicks = Type.Object(
  {
    keep: integer(256, 0, 100000, "Picks kept for `/debug/requests` of the admin address; 0: none."),
    sample: number(1, 0, 1, "Share of picks that are kept."),
    perSecond: integer(
      100,
      0,
      10000,
      "Picks kept in a second at most: each takes some 50 us of the thread that serves.",
    ),
    log: number(0, 0, 1, "Share of the kept picks that are logged whole."),
  },
  { ...closed, description: "Picks that can be asked for afterwards." },
);
