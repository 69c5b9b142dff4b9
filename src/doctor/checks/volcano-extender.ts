/**
 * The `extender` plugin of Volcano's configuration, where it calls Tandem. What the plugin makes of each value, and of an
 * extender that does not answer, is its pkg/scheduler/plugins/extender/extender.go; not all of it is what one expects.
 */
import { type Reason, type Verdict } from "../../kinds/verdict.ts";
import { good, idle, listed, worst, type Check, type Complaint } from "../check.ts";
import { durationMs, type VolcanoConfiguration } from "../documents.ts";
import { itemsOf, type Facts } from "../facts.ts";
import type { VolcanoExtender } from "../volcano-plugin.ts";

interface Entry {
  readonly entry: VolcanoExtender;
  readonly configuration: VolcanoConfiguration;
}

/** Plugins of ours in every configuration known. */
export const ourPlugins = (facts: Facts): readonly Entry[] =>
  itemsOf(facts.volcano).flatMap((configuration) =>
    (configuration.extenders ?? []).map((entry) => ({ entry, configuration })),
  );

const NONE = "no configuration of Volcano names Tandem as its extender; gates and PodGroups hold gangs without it";

type Rule = (entry: VolcanoExtender, facts: Facts) => readonly Complaint[];

const pluginCheck = (name: string, rule: Rule, otherwise: string): Check => ({
  name,
  needs: ["volcano"],
  judge: (facts) => {
    const entries = ourPlugins(facts);
    if (entries.length === 0) return idle(NONE);
    return worst(
      entries.flatMap(({ entry }) => rule(entry, facts)),
      otherwise,
    );
  },
});

function presence(facts: Facts): Verdict {
  const sources = ourPlugins(facts).map(({ configuration }) => configuration.source);
  return sources.length === 0 ? idle(NONE) : good(`Volcano asks Tandem by ${listed(sources)}`);
}

const say =
  (reason: Reason) =>
  (message: string, mild = false): Complaint => ({ reason, message, mild });
const wrong = say("VolcanoVerbs");

/** What Tandem serves. */
const SERVED: ReadonlySet<string> = new Set([
  ...["predicate", "prioritize", "jobReady", "jobEnqueueable", "jobEnqueued", "preemptable", "reclaimable"],
  ...["allocateFunc", "deallocateFunc", "queueOverused", "onSessionOpen", "onSessionClose"],
]);

const verbs: Rule = ({ verbs: asked, managedResources }) => [
  ...[...asked]
    .filter(([verb, path]) => !SERVED.has(verb) || verb !== path)
    .map(([verb, path]) => wrong(`${verb}Verb is "${path}", which Tandem does not serve`)),
  ...(asked.has("onSessionOpen")
    ? [wrong("onSessionOpenVerb sends the whole cluster each second, and a call that fails turns the plugin off")]
    : []),
  ...(asked.has("jobReady") && !asked.has("onSessionClose")
    ? [wrong("jobReadyVerb without onSessionCloseVerb: room of one session would be counted in the next")]
    : []),
  ...(managedResources === undefined ? [wrong("managedResources is no list, on which the scheduler ends")] : []),
];

const silent = say("VolcanoSilence");

/** `ignorable` means the opposite for different verbs; one value is right for all only if the others are left out. */
const silence: Rule = ({ ignorable, verbs: asked }) => [
  ...(ignorable && asked.has("jobReady")
    ? [silent("ignorable is true: without an answer to jobReady no job of anybody is ready")]
    : []),
  ...(ignorable && asked.has("predicate")
    ? [silent("ignorable is true: without an answer pods pass the predicate unfiltered")]
    : []),
  ...(!ignorable && asked.has("allocateFunc")
    ? [silent("allocateFuncVerb: without an answer no pod with a managed device is placed")]
    : []),
  ...(!ignorable && asked.has("jobEnqueueable")
    ? [silent("jobEnqueueableVerb: without an answer no job of anybody with minResources is queued", true)]
    : []),
];

const order: Rule = ({ before }) =>
  before.includes("gang")
    ? []
    : [
        say("VolcanoOrder")(
          "extender does not stand after gang in its tier: it is asked about jobs that gang holds back",
        ),
      ];

const costly = say("VolcanoVerbCostly");
/** A call for each task and node; with 16 at once and 10 ms each, 100 nodes take 60 ms for each task. */
const MOST_NODES = 100;
/** Each is a call a session, of some 3 ms: 200 of them take most of the second between two. */
const MOST_JOBS = 200;
/** A call that hangs costs it whole, once for each PodGroup of the cluster in every session. */
const MOST_TIMEOUT_MS = 1000;

const cost: Rule = ({ verbs: asked, httpTimeout }, facts) => {
  const [nodes, jobs] = [itemsOf(facts.objects.Node).length, itemsOf(facts.objects.PodGroup).length];
  const chatty = ["predicate", "prioritize"].filter((verb) => asked.has(verb));
  const ms = httpTimeout === "" ? MOST_TIMEOUT_MS : (durationMs(httpTimeout) ?? MOST_TIMEOUT_MS);
  return [
    ...(chatty.length > 0 && nodes > MOST_NODES
      ? [
          costly(
            `${chatty.join(" and ")} with ${nodes} nodes: whole nodes are sent, one call for each task and node`,
            true,
          ),
        ]
      : []),
    ...(asked.has("jobReady") && jobs > MOST_JOBS
      ? [costly(`jobReady with ${jobs} PodGroups: one call for each of them in every session`, true)]
      : []),
    ...(ms <= MOST_TIMEOUT_MS && ms > 0 ? [] : [costly(`httpTimeout is ${httpTimeout}`)]),
  ];
};

function reach(facts: Facts): Verdict {
  const urls = [...new Set(ourPlugins(facts).map(({ entry }) => entry.urlPrefix))];
  if (urls.length === 0) return idle(NONE);
  const answers = urls.flatMap((url) => {
    const found = facts.reached.get(url);
    return found === undefined ? [] : [{ url, ...found }];
  });
  if (answers.length === 0) return idle("nothing was called: that takes a cluster (--cluster)");
  const mute = answers.filter(({ ok }) => !ok);
  return worst(
    mute.map(({ url, message }) => say("ExtenderUnreachable")(`${url}: ${message}`)),
    listed(answers.map(({ url, message }) => `${url}: ${message}`)),
  );
}

export const VOLCANO_EXTENDER_CHECKS: readonly Check[] = [
  { name: "volcano-extender", needs: ["volcano"], judge: presence },
  pluginCheck("volcano-extender-verbs", verbs, "the verbs are those that do no harm"),
  pluginCheck("volcano-extender-silence", silence, "others' jobs go on while Tandem does not answer"),
  pluginCheck("volcano-extender-order", order, "it is asked after gang"),
  pluginCheck("volcano-extender-cost", cost, "the calls are few enough for the cluster"),
  { name: "volcano-extender-reachable", needs: ["volcano"], judge: reach },
];
