/**
 * kube-scheduler's configuration, as far as it concerns Tandem's extender. What each field does is kube-scheduler's
 * pkg/scheduler/extender.go; why a value is wanted stands with its rule.
 */
import type { X509Certificate } from "node:crypto";
import { type Verdict } from "../../kinds/verdict.ts";
import { isDevice, podDemand } from "../../gang/devices.ts";
import { labelOf, type Pod } from "../../kinds/kube.ts";
import { LABEL } from "../../kinds/names.ts";
import { idle, listed, worst, type Check, type Complaint } from "../check.ts";
import { durationMs, isOurs, type ExtenderEntry, type SchedulerConfiguration } from "../documents.ts";
import { itemsOf, type Facts } from "../facts.ts";
import { certificateOf, spent, vouchesFor } from "../certificates.ts";
import { servingCertificate } from "./webhooks.ts";

interface Entry {
  readonly entry: ExtenderEntry;
  readonly configuration: SchedulerConfiguration;
}

/** Entries of ours in every configuration known. */
export const ourExtenders = (facts: Facts): readonly Entry[] =>
  itemsOf(facts.schedulers).flatMap((configuration) =>
    configuration.extenders.filter(isOurs).map((entry) => ({ entry, configuration })),
  );

const NONE = "no scheduler configuration names Tandem's extender; gates hold gangs without it";

type Rule = (entry: ExtenderEntry, facts: Facts) => readonly Complaint[];

/** A check of every entry of ours. */
const entryCheck = (name: string, rule: Rule, otherwise: string): Check => ({
  name,
  needs: ["schedulers"],
  judge: (facts) => {
    const entries = ourExtenders(facts);
    if (entries.length === 0) return idle(NONE);
    return worst(
      entries.flatMap(({ entry }) => rule(entry, facts)),
      otherwise,
    );
  },
});

/** The port that the manifests give the Service; one of your own may have another. */
const SERVICE_PORT = 443;

/** Entries that lead to Tandem's Service, and there to nothing that it serves. */
const strays = (facts: Facts): readonly Complaint[] =>
  itemsOf(facts.schedulers).flatMap(({ extenders }) => extenders.flatMap((entry) => strayOf(entry, facts)));

function strayOf(entry: ExtenderEntry, { config }: Facts): readonly Complaint[] {
  const { namespace, service } = config.controller;
  const { urlPrefix } = entry;
  const url = URL.canParse(urlPrefix) ? new URL(urlPrefix) : undefined;
  if (url === undefined || !`${url.hostname}.`.startsWith(`${service}.${namespace}.svc.`)) return [];
  if (!isOurs(entry))
    return [{ reason: "ExtenderUnreachable", message: `${urlPrefix}: Tandem serves the extender under /extender` }];
  const port = Number(url.port || { "https:": 443, "http:": 80 }[url.protocol]);
  const message = `${urlPrefix}: in the manifests the Service has port ${SERVICE_PORT} alone`;
  return port === SERVICE_PORT ? [] : [{ reason: "ExtenderUnreachable", message, mild: true }];
}

function presence(facts: Facts): Verdict {
  const sources = ourExtenders(facts).map(({ configuration }) => configuration.source);
  const complaints = strays(facts);
  if (sources.length + complaints.length === 0) return idle(NONE);
  return worst(complaints, `Tandem's extender stands in ${listed(sources)}`);
}

/** Without `preempt` pods are evicted on nodes where what they free is kept for others, or is outside the domain. */
const verbs: Rule = ({ filterVerb, prioritizeVerb, preemptVerb, bindVerb }) => [
  ...(filterVerb === "filter" ? [] : [wrongVerb("filterVerb", "filter", filterVerb)]),
  ...(prioritizeVerb === "prioritize" ? [] : [wrongVerb("prioritizeVerb", "prioritize", prioritizeVerb)]),
  ...(preemptVerb === "preempt"
    ? []
    : [{ ...wrongVerb("preemptVerb", "preempt", preemptVerb), mild: preemptVerb === "" }]),
  ...(["", "bind"].includes(bindVerb) ? [] : [wrongVerb("bindVerb", "bind, or none", bindVerb)]),
];

const wrongVerb = (field: string, wanted: string, found: string): Complaint => ({
  reason: "ExtenderVerbs",
  message: `${field} is "${found}"; Tandem serves ${wanted}`,
});

/** With whole nodes a call of 5000 nodes has 47 MB, and kube-scheduler scores every node as empty afterwards. */
const cache: Rule = ({ nodeCacheCapable }) =>
  nodeCacheCapable ? [] : [{ reason: "ExtenderWholeNodes", message: "nodeCacheCapable is not true" }];

/** Skipped over a failure, an extender lets pods through that its reservations would have stopped. */
const honest: Rule = ({ ignorable }) =>
  ignorable
    ? [{ reason: "ExtenderIgnorable", message: "ignorable is true: while it does not answer, pods pass unfiltered" }]
    : [];

/** What the containers of pods of ours ask for; each list without a managed resource goes past the extender. */
const askedTogether = (facts: Facts): readonly string[] => [
  ...new Set(
    (itemsOf(facts.objects.Pod) as readonly Pod[])
      .filter((pod) => labelOf(pod, LABEL.model) !== undefined)
      .map(({ spec }) => [...podDemand(spec).keys()].filter(isDevice).sort().join(" and ")),
  ),
];

const managed: Rule = ({ managedResources }, facts) => {
  if (managedResources.length === 0)
    return [
      {
        reason: "ExtenderUnmanaged",
        message: "managedResources is empty: every pod waits for the extender",
        mild: true,
      },
    ];
  const known = new Set(managedResources.map(({ name }) => name));
  const missing = askedTogether(facts).filter((asked) => !asked.split(" and ").some((name) => known.has(name)));
  const ignored = managedResources.filter(({ ignoredByScheduler }) => ignoredByScheduler).map(({ name }) => name);
  return [
    ...missing.map((asked) => unmanaged(`pods with ${asked === "" ? "no device" : asked} pass by the extender`)),
    ...ignored.map((name) => unmanaged(`ignoredByScheduler of ${name}: kube-scheduler does not count it`)),
  ];
};

const unmanaged = (message: string): Complaint => ({ reason: "ExtenderUnmanaged", message });

/**
 * A point of an extender's score counts 10 x weight, beside some 1200 that the default plugins may give a node; with less
 * than 5 the distance to the rest of a group is lost among them.
 */
const LEAST_WEIGHT = 5;

const weight: Rule = ({ weight: found }) => {
  if (found === undefined || !Number.isInteger(found) || found < 1)
    return [{ reason: "ExtenderWeight", message: `weight is ${found ?? "missing"}: kube-scheduler wants 1 or more` }];
  return found < LEAST_WEIGHT
    ? [{ reason: "ExtenderWeight", message: `weight ${found} is below ${LEAST_WEIGHT}`, mild: true }]
    : [];
};

/** A call that hangs stops the whole scheduler for so long; 5 s unless configured. Filtering 5000 nodes takes 50 ms. */
const MOST_TIMEOUT_MS = 2000;

const timeout: Rule = ({ httpTimeout }) => {
  const ms = httpTimeout === "" ? 5000 : durationMs(httpTimeout);
  if (ms === undefined) return [{ reason: "ExtenderSlow", message: `httpTimeout "${httpTimeout}" is no duration` }];
  if (ms > 0 && ms <= MOST_TIMEOUT_MS) return [];
  return [{ reason: "ExtenderSlow", message: `httpTimeout is ${httpTimeout === "" ? "missing, so 5s" : httpTimeout}` }];
};

const trust: Rule = (entry, facts) => {
  const { urlPrefix, enableHttps, insecure, caData, caFile } = entry;
  if (!enableHttps) return [unverified(`enableHTTPS is not true for ${urlPrefix}`)];
  if (!urlPrefix.startsWith("https:")) return [unverified(`${urlPrefix} is not https`)];
  if (insecure) return [unverified("tlsConfig.insecure is true: anybody may answer")];
  if (caData === "" && caFile === "") return [unverified("tlsConfig has no CA, so kube-scheduler verifies nothing")];
  return caData === "" ? [] : authority(caData, facts);
};

/** What a file holds is known where the scheduler runs; only what stands in the configuration itself is judged. */
function authority(caData: string, facts: Facts): readonly Complaint[] {
  const issuer = certificateOf(caData);
  if (issuer === undefined) return [unverified("caData holds no certificate")];
  const leaf = servingCertificate(facts);
  if (leaf !== undefined && !vouchesFor(caData, leaf))
    return [unverified("caData did not sign the certificate that Tandem serves")];
  return ageing(issuer, facts.now);
}

/** Authorities are replaced after two thirds of their life, and kube-scheduler reads the CA at its start only. */
const SOON = 0.6;

function ageing(issuer: X509Certificate, now: number): readonly Complaint[] {
  if (spent(issuer, now) < SOON) return [];
  const message = `the authority in caData, valid until ${issuer.validTo}, is about to be replaced`;
  return [{ ...unverified(message), mild: true }];
}

const unverified = (message: string): Complaint => ({ reason: "ExtenderUnverified", message });

const reachable: Rule = ({ urlPrefix }, { reached }) => {
  const found = reached.get(urlPrefix);
  return found === undefined || found.ok
    ? []
    : [{ reason: "ExtenderUnreachable", message: `${urlPrefix}: ${found.message}` }];
};

const UNCALLED = "nothing was called: that takes a cluster (--cluster), and an authority that can be read from here";

function reach(facts: Facts): Verdict {
  const entries = ourExtenders(facts);
  if (entries.length === 0) return idle(NONE);
  const called = entries.filter(({ entry }) => facts.reached.has(entry.urlPrefix));
  if (called.length === 0) return idle(UNCALLED);
  const complaints = called.flatMap(({ entry }) => reachable(entry, facts));
  return worst(
    complaints,
    listed(called.map(({ entry }) => `${entry.urlPrefix}: ${facts.reached.get(entry.urlPrefix)?.message ?? ""}`)),
  );
}

/** kube-scheduler looks at all nodes of a cluster with fewer than so many, whatever the percentage. */
const ALWAYS_ALL = 100;

/** An extender that rejects a whole sample leaves the pod unschedulable though another node would fit. */
function sample(facts: Facts): Verdict {
  const entries = ourExtenders(facts);
  if (entries.length === 0) return idle(NONE);
  const nodes = facts.objects.Node;
  const small = nodes.known && nodes.items.length < ALWAYS_ALL;
  const partial = entries.flatMap(({ configuration }) =>
    configuration.profiles
      .filter(({ percentage }) => percentage !== 100)
      .map(({ name, percentage }): Complaint => ({
        reason: "NodesSampled",
        message: `percentageOfNodesToScore of ${name} is ${percentage ?? "missing"}`,
        mild: small,
      })),
  );
  return worst(partial, "every node is shown to the extender");
}

export const SCHEDULER_CHECKS: readonly Check[] = [
  { name: "extender", needs: ["schedulers"], judge: presence },
  entryCheck("extender-verbs", verbs, "filter, prioritize and preempt are asked for"),
  entryCheck("extender-node-cache", cache, "nodes are sent by name"),
  entryCheck("extender-ignorable", honest, "no pod of ours passes unfiltered"),
  entryCheck("extender-resources", managed, "pods without devices do not wait for the extender"),
  entryCheck("extender-weight", weight, "topology outweighs the default scores"),
  entryCheck("extender-timeout", timeout, "a hanging call ends within 2 s"),
  entryCheck("extender-tls", trust, "its certificate is verified"),
  { name: "extender-nodes", needs: ["schedulers"], judge: sample },
  { name: "extender-reachable", needs: ["schedulers"], judge: reach },
];
