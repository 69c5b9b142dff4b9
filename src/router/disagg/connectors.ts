/**
 * Which connectors this router can run a prefill leg for, and which endpoints can do without one.
 *
 * NIXL and vLLM-Ascend's Mooncake hand over parameters from the prefill leg's answer to the decode leg. Others want both
 * legs at once, or a callback: their prefill endpoints are no partners, and prompts are prefilled where they are decoded.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { isHandedOver, prefillsAlone as computesPrompts } from "../../profiles/connectors.ts";

/** True where the legs of the endpoint's connector run one after the other, as its profile says. */
export const handsOver = ({ compatibility: { connector, engine } }: Endpoint): boolean =>
  isHandedOver(connector, engine);

/** SGLang's decode mode waits for a bootstrap room and computes no prompt by itself. */
export const prefillsAlone = ({ role, compatibility: { connector, engine } }: Endpoint): boolean =>
  role !== "decode" || computesPrompts(connector, engine);
