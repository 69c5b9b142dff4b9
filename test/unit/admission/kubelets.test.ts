import t from "tap";
import { kubeletsSleep } from "../../../src/admission/stages/kubelets.ts";
import type { Node } from "../../../src/kinds/kube.ts";

const node = (kubeletVersion: string): Node => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: kubeletVersion },
  status: { nodeInfo: { kubeletVersion } },
});

t.test("the oldest kubelet tells whether preStop may sleep", (t) => {
  const cases: [versions: string[], sleeps: boolean][] = [
    [["v1.34.2"], true],
    [["v1.34.2", "v1.29.9-eks-1"], false],
    [["v1.30.0-gke.100"], true],
    [["v1.36.0-kwok-v0.8.0"], true],
    [["v1.9.1"], false],
    [["", "fake"], true],
    [[], true],
  ];
  for (const [versions, sleeps] of cases) t.equal(kubeletsSleep(versions.map(node)), sleeps, versions.join());
  t.end();
});
