/**
 * The real programs of the end-to-end tests. Those of Kubernetes come from `KUBEBUILDER_ASSETS` when it is set (what
 * it lacks is built), else from their Go modules.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildModule, type GoModule } from "./go-module.ts";
import { MissingTool } from "./step.ts";

const KUBERNETES_VERSION = "v1.36.1";
const VERSION_PACKAGE = "k8s.io/component-base/version";

const KUBERNETES: GoModule = {
  folder: "kubernetes",
  programs: {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    kubectl: "k8s.io/kubernetes/cmd/kubectl",
    kwok: "sigs.k8s.io/kwok/cmd/kwok",
    etcd: "go.etcd.io/etcd/server/v3",
  },
  linkFlags: [
    "-s -w",
    `-X ${VERSION_PACKAGE}.gitVersion=${KUBERNETES_VERSION}`,
    `-X ${VERSION_PACKAGE}.gitMajor=1`,
    `-X ${VERSION_PACKAGE}.gitMinor=36`,
    `-X ${VERSION_PACKAGE}.gitTreeState=clean`,
  ].join(" "),
};

const VOLCANO: GoModule = {
  folder: "volcano",
  programs: {
    "vc-scheduler": "volcano.sh/volcano/cmd/scheduler",
    "vc-controller-manager": "volcano.sh/volcano/cmd/controller-manager",
    "vc-webhook-manager": "volcano.sh/volcano/cmd/webhook-manager",
  },
  linkFlags: "-s -w",
  // volcano.sh/apis has no v1.15 on the module proxy; v1.14.0 lacks just this constant of Volcano 1.15.1, which
  // documents it in docs/design/scheduling-gates-queue-admission.md.
  amend: {
    path: "volcano.sh/apis",
    version: "v1.14.0",
    files: {
      "pkg/apis/scheduling/v1beta1/queue_allocation_gate.go":
        'package v1beta1\n\nconst QueueAllocationGateKey = GroupName + "/queue-allocation-gate"\n',
    },
  },
};

const PROGRAMS = ["etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubectl", "kwok"] as const;
export type Program = (typeof PROGRAMS)[number];
/** Program -> absolute path. */
export type Binaries = Readonly<Record<Program, string>>;

let found: Promise<Binaries> | undefined;

/** Paths of the Kubernetes programs; found or built once a process. */
export const kubernetesBinaries = (): Promise<Binaries> => (found ??= locate(process.env["KUBEBUILDER_ASSETS"]));

async function locate(assets: string | undefined): Promise<Binaries> {
  const given = new Map(PROGRAMS.flatMap((name) => assetOf(assets, name)));
  if (given.size < PROGRAMS.length) {
    const built = await buildModule(KUBERNETES);
    for (const name of PROGRAMS) if (!given.has(name)) given.set(name, join(built, name));
  }
  return Object.fromEntries(given) as Binaries;
}

function assetOf(assets: string | undefined, name: Program): [Program, string][] {
  if (assets === undefined || assets === "") return [];
  if (!existsSync(assets)) throw new MissingTool(`KUBEBUILDER_ASSETS names ${assets}, which does not exist.`);
  const path = join(assets, name);
  return existsSync(path) ? [[name, path]] : [];
}

/** Folder with Volcano's vc-scheduler, vc-controller-manager and vc-webhook-manager; built when first asked for. */
export const volcanoBinaries = (): Promise<string> => buildModule(VOLCANO);
