/**
 * Which connectors this router can run a prefill leg for, and which endpoints can do without one.
 *
 * NIXL and vLLM-Ascend's Mooncake hand over parameters from the prefill leg's answer to the decode leg. Others want both
 * legs at once, or a callback: their prefill endpoints are no partners, and prompts are prefilled where they are decoded.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";

/** True where the legs of the endpoint's connector run one after the other. Upstream vLLM's Mooncake runs them at once. */
export function handsOver({ compatibility: { connector, engine } }: Endpoint): boolean {
  return connector === "nixl" || (connector === "mooncake" && engine !== "vllm");
}

/** SGLang's decode mode waits for a bootstrap room and computes no prompt by itself. */
export const prefillsAlone = ({ role, compatibility }: Endpoint): boolean =>
  role !== "decode" || compatibility.connector !== "sglang";
