/** The namespace of a request, read off the name of Envoy's route; a name of another make tells nothing. */
import t from "tap";
import { decodeRequest } from "../../../src/router/extproc/codec.ts";
import { ExchangeStream } from "../../../src/router/extproc/stream.ts";
import { messageField, textField } from "../../../src/router/extproc/wire.ts";
import { encodeHeaders } from "../../../src/simulator/gateway/codec.ts";

const headers = encodeHeaders("requestHeaders", [[":path", "/v1/completions"]], true, {
  request: "NONE",
  response: "NONE",
});
const attributes = (filter: string, key: string, text: string): Buffer => {
  const struct = messageField(1, [textField(1, key), messageField(2, [textField(3, text)])]);
  return messageField(9, [textField(1, filter), messageField(2, [struct])]);
};
const FILTER = "envoy.filters.http.ext_proc";

const ROWS: readonly (readonly [filter: string, key: string, name: string, namespace: string | undefined])[] = [
  [FILTER, "xds.route_name", "httproute/team-a/chat/rule/0/match/0/example_com", "team-a"],
  [FILTER, "xds.route_name", "grpcroute/team-a/chat/rule/0", "team-a"],
  [FILTER, "xds.route_name", "httproute/team-a", undefined],
  [FILTER, "xds.route_name", "httproute//chat", undefined],
  [FILTER, "xds.route_name", "httproute/Team_A/chat", undefined],
  [FILTER, "xds.route_name", `httproute/${"a".repeat(64)}/chat`, undefined],
  [FILTER, "xds.route_name", "x/httproute/team-a/chat", undefined],
  [FILTER, "xds.cluster_name", "httproute/team-a/chat", undefined],
  ["another", "xds.route_name", "httproute/team-a/chat", undefined],
];

t.test("the namespace goes with the request, to its check and to its route", (t) => {
  for (const [filter, key, name, namespace] of ROWS) {
    const event = decodeRequest(Buffer.concat([headers, attributes(filter, key, name)]));
    const actions = new ExchangeStream(1000, 1000).advance(event);
    const told = actions.flatMap((action) =>
      action.kind === "precheck" ? [action.head.namespace] : action.kind === "route" ? [action.request.namespace] : [],
    );
    t.same(told, [namespace, namespace], `${filter} ${key} ${name}`);
  }
  t.end();
});
