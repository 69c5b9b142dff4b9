/** Who may take a request now, of those that serve its model; and the answers where nobody may. */
import { HEADER } from "../kinds/names.ts";
import type { Problem } from "./answers.ts";
import type { Fleet } from "./directory.ts";
import type { Candidate } from "./pick/pick.ts";
import type { SelectDependencies } from "./select.ts";

type RoomDependencies = Pick<SelectDependencies, "config" | "loads" | "clock">;

/** Why no endpoint of a fleet may take the request, where none may. */
export function fleetProblem(deps: RoomDependencies, fleet: Fleet, model: string): Problem | undefined {
  if (!fleet.modelKnown)
    return { status: 404, reason: "ModelUnknown", message: `the model \`${model}\` does not exist`, param: "model" };
  if (fleet.ambiguous) return ambiguous(model);
  if (fleet.decode.length === 0) return noEndpoint(model);
  if (fleet.decode.some(({ endpoint }) => !ownFull(deps, endpoint.id))) return undefined;
  const message = `every endpoint of \`${model}\` has ${deps.config.maxInflightPerEndpoint} requests`;
  return { status: 429, reason: "Saturated", message };
}

export const UNNAMED: Problem = {
  status: 400,
  reason: "ModelUnnamed",
  message: `several services are to be had: name the model, in the body where it has one or in header ${HEADER.model}`,
  param: "model",
};

const ambiguous = (model: string): Problem => ({
  status: 404,
  reason: "ModelAmbiguous",
  message: `the model \`${model}\` is served in several namespaces, and the route of this request names none`,
  param: "model",
});

const noEndpoint = (model: string): Problem => ({
  status: 503,
  reason: "NoEndpoint",
  message: `no endpoint of \`${model}\` can take requests now`,
});

/** Only engines that wait for a prefill are left, and there is none, or none that could prefill for them. */
export const unpaired = (model: string): Problem => ({
  status: 503,
  reason: "NoPartner",
  message: `no prefill endpoint of \`${model}\` can serve this request together with a decode endpoint now`,
});

const ownFull = ({ config, loads }: RoomDependencies, id: string): boolean =>
  loads.ownInflight(id) >= config.maxInflightPerEndpoint;

/** All of them where every one has room, as nearly always: then nothing is copied. */
export function withRoom(deps: RoomDependencies, all: readonly Candidate[]): readonly Candidate[] {
  const full = ({ load }: Candidate): boolean => load.inflight >= deps.config.maxInflightPerEndpoint;
  if (!all.some(full)) return all;
  const left = all.filter((each) => !full(each));
  if (left.length > 0) return left;
  // Others' words order endpoints but refuse nobody: a replica that is wrong must not stop the fleet.
  const mine = all.filter(({ endpoint }) => !ownFull(deps, endpoint.id));
  return mine.sort((a, b) => a.load.inflight - b.load.inflight).slice(0, 1);
}

/** Endpoints that did not just refuse a connection; all of them where every one did. */
export function unshunned({ clock }: RoomDependencies, all: readonly Candidate[]): readonly Candidate[] {
  const now = clock.monotonic();
  const shunned = ({ load }: Candidate): boolean => load.shunnedUntil > now;
  if (!all.some(shunned)) return all;
  const left = all.filter((each) => !shunned(each));
  return left.length > 0 ? left : all;
}
