import t from "tap";
import type { Namespace, StringMap } from "../../../src/kinds/kube.ts";
import { AUTOSCALING_PREFIX } from "../../../src/kinds/names.ts";
import { SCALING_KEYS } from "../../../src/workload/scaling-keys.ts";
import { groupScaling, type ScaledWorkload } from "../../../src/workload/group-scaling.ts";
import { scalingOf, type DecodedScaling, type ScaledSpec } from "../../../src/workload/scaling-decode.ts";
import { GROUP_SCALING, PREFILL_SCALING, SCALING, type ScalingSpec } from "../../../src/workload/scaling.ts";
import { SCALED, scaledObject } from "../../support/scaling.ts";

const decode = (keys: StringMap, spec: Partial<ScaledSpec> = {}, namespace?: Namespace): DecodedScaling =>
  scalingOf(scaledObject(keys), { ...SCALED, ...spec }, namespace);
const refusals = (keys: StringMap, spec: Partial<ScaledSpec> = {}): string[] =>
  decode(keys, spec).verdicts.map(({ message }) => message.replaceAll(AUTOSCALING_PREFIX, ""));
const namespace = (keys: StringMap): Namespace => ({ ...scaledObject(keys), kind: "Namespace" });

const NO_GROUP = { group: {}, groupDefaults: {} };

t.test("values of each kind of key, good and bad", (t) => {
  const table: [name: keyof typeof SCALING_KEYS, good: [string, unknown][], bad: string[]][] = [
    [
      "ttftSlo",
      [
        ["500ms", 500],
        ["30s", 30_000],
        ["10m", 600_000],
        ["1h", 3_600_000],
      ],
      ["", "2", "1.5s", "-1s", "0s", "61m", "1d", "1 s", "1S", "99999999999999999999s"],
    ],
    ["standby", [["0s", 0]], ["0"]],
    [
      "maxScaleOut",
      [
        ["100%/60s", { share: 1, periodMs: 60_000 }],
        ["1%/1s", { share: 0.01, periodMs: 1000 }],
        ["1000%/1h", { share: 10, periodMs: 3_600_000 }],
      ],
      ["", "100%", "4/60s", "0%/60s", "1001%/60s", "10%/500ms", "10%/2h", "10%/60s/1s"],
    ],
    ["maxScaleIn", [["25%/60s", { share: 0.25, periodMs: 60_000 }]], ["101%/60s"]],
    [
      "prefillPerDecode",
      [
        ["0.5-2", [0.5, 2]],
        ["1-1", [1, 1]],
      ],
      ["", "1", "2-0.5", "0-1", "-1-2", "1-2-3", "a-b", "1-"],
    ],
    ["cost", [["2.4", 2.4]], ["0", "-1", "1e3", ".5", "5.", "NaN"]],
    ["kvTarget", [["0.75", 0.75]], ["0", "1.01", "75%"]],
    ["panicThreshold", [["1.5", 1.5]], ["1", "11"]],
    [
      "fallback",
      [
        ["hold", { kind: "hold" }],
        ["4", { kind: "replicas", replicas: 4 }],
      ],
      ["", "keep", "-1", "10001", "1.5"],
    ],
    ["minReplicas", [["0", 0]], ["", "-1", "1.0", "0x1", "10001"]],
    ["maxReplicas", [["8", 8]], ["0"]],
    [
      "paused",
      [
        ["true", true],
        ["false", false],
      ],
      ["", "yes", "True", "1"],
    ],
    ["actuator", [["keda", "keda"]], ["", "hpa"]],
    ["scalingMode", [["scale-up-only", "scale-up-only"]], ["", "on", "Auto"]],
    ["objective", [["latency", "latency"]], ["speed"]],
  ];
  for (const [name, good, bad] of table) {
    const key = SCALING_KEYS[name];
    for (const [text, value] of good) t.same(key.parse(text), value, `${key.key}: ${text}`);
    for (const text of bad) t.equal(key.parse(text), undefined, `${key.key}: ${JSON.stringify(text)}`);
  }
  t.end();
});

t.test("windows of the week", (t) => {
  const parse = (text: string): unknown => SCALING_KEYS.schedule.parse(text);
  const berlin = { from: 480, to: 1200, timeZone: "Europe/Berlin" };
  t.same(parse("Mon-Fri 08:00-20:00 Europe/Berlin min=4 max=8"), [
    { days: [1, 2, 3, 4, 5], ...berlin, min: 4, max: 8 },
  ]);
  t.same(parse(" Fri-Mon 22:00-06:00 UTC max=2 ;Tue,Thu 00:00-24:00 Asia/Shanghai min=0; "), [
    { days: [0, 1, 5, 6], from: 1320, to: 360, timeZone: "UTC", max: 2 },
    { days: [2, 4], from: 0, to: 1440, timeZone: "Asia/Shanghai", min: 0 },
  ]);
  const day = "Mon 08:00-20:00 UTC";
  const bad = [
    ...["", ";", "Mon", day, `${day} min=x`, `${day} min=1 min=2`, `${day} 4`, `${day} min=10001`, `${day} mid=1`],
    ...["mon 08:00-20:00 UTC min=1", "Mon-Fri-Sun 08:00-20:00 UTC min=1", "Mon,  08:00-20:00 UTC min=1"],
    ...[
      "Mon 8:00-20:00 UTC min=1",
      "Mon 08:00-24:01 UTC min=1",
      "Mon 08:00-08:00 UTC min=1",
      "Mon 24:00-08:00 UTC min=1",
    ],
    ...["Mon 08:60-20:00 UTC min=1", "Mon 08:00 UTC min=1", "Mon 08:00-20:00-22:00 UTC min=1"],
    ...["Mon 08:00-20:00 Berlin min=1", "Mon 08:00-20:00 +01:00 min=1", "Mon 08:00-20:00 min=1"],
    ...[`${day} min=1; Mon`, Array.from({ length: 33 }, () => `${day} min=1`).join(";"), " ".repeat(5000)],
  ];
  for (const text of bad) t.equal(parse(text), undefined, JSON.stringify(text).slice(0, 60));
  t.end();
});

t.test("what nobody says is the default of the role, in whole steps of whole instances", (t) => {
  t.same(decode({}).scaling, { ...SCALING, ...NO_GROUP });
  t.same(decode({}, { role: "prefill" }).scaling, { ...PREFILL_SCALING, ...NO_GROUP });
  t.match(decode({ step: "3" }, { nodesPerInstance: 2 }).scaling, {
    step: 3,
    minReplicas: 6,
    maxReplicas: 18,
    activationReplicas: 6,
  });
  t.match(decode({}, { kind: "LeaderWorkerSet", nodesPerInstance: 4 }).scaling, { minReplicas: 1, maxReplicas: 10 });
  t.end();
});

t.test("paused is both; observe tells at most", (t) => {
  t.match(decode({ paused: "true" }).scaling, { pausedScaleIn: true, pausedScaleOut: true });
  t.match(decode({ paused: "false", "paused-scale-in": "true" }).scaling, {
    pausedScaleIn: true,
    pausedScaleOut: false,
  });
  t.equal(decode({ mode: "auto" }, { mode: "observe" }).scaling?.mode, "recommend");
  t.equal(decode({ mode: "off" }, { mode: "observe" }).scaling?.mode, "off");
  t.equal(decode({ mode: "auto" }, { mode: "route" }).scaling?.mode, "auto");
  t.end();
});

t.test("the workload wins over its Namespace, for the group as well", (t) => {
  const defaults = namespace({ mode: "auto", "max-replicas": "20", "ttft-slo": "3s", objective: "cost" });
  const { scaling } = decode({ "max-replicas": "5", "ttft-slo": "1s" }, {}, defaults);
  t.match(scaling, { mode: "auto", maxReplicas: 5, group: { ttftSloMs: 1000 } });
  t.same(scaling?.groupDefaults, { ttftSloMs: 3000, objective: "cost" });
  const bad = decode({}, {}, namespace({ mode: "on", "tpot-slo": "1" }));
  t.equal(bad.scaling, undefined);
  t.match(bad.verdicts, [
    { outcome: "denied", message: /^autoscaling.tandem.sh\/mode of the Namespace: "on" is not accepted; give off, / },
    { outcome: "denied", message: /^autoscaling.tandem.sh\/tpot-slo of the Namespace: "1"/ },
  ]);
  t.end();
});

t.test("every key denies a bad value with its name and what it accepts", (t) => {
  for (const { key, accepts } of Object.values(SCALING_KEYS)) {
    const { scaling, verdicts } = decode({ [key]: "?!" });
    t.equal(scaling, undefined, key);
    t.match(verdicts, [{ outcome: "denied", reason: "InvalidAnnotation", subject: key }]);
    t.ok(verdicts[0]?.message.startsWith(`${key}: "?!" is not accepted; give ${accepts.replaceAll("`", "")}`), key);
  }
  t.end();
});

t.test("contradictions name both keys and what would do", (t) => {
  const table: [keys: StringMap, spec: Partial<ScaledSpec>, messages: string[]][] = [
    [{ "min-replicas": "4", "max-replicas": "2" }, {}, ["min-replicas is 4, above max-replicas, which is 2"]],
    [
      { "max-replicas": "7" },
      { nodesPerInstance: 2 },
      ["max-replicas is 7, but tandem.sh/nodes-per-instance is 2; give 6 or 8"],
    ],
    [
      { "min-replicas": "1" },
      { nodesPerInstance: 2 },
      ["min-replicas is 1, but tandem.sh/nodes-per-instance is 2; give 2"],
    ],
    [{ "max-replicas": "7" }, { kind: "LeaderWorkerSet", nodesPerInstance: 2 }, []],
    [{ step: "4", "max-replicas": "8", "min-replicas": "2" }, {}, ["min-replicas is 2, but step is 4; give 4"]],
    [
      { step: "2", "max-replicas": "6", fallback: "5", "activation-replicas": "1" },
      { nodesPerInstance: 2 },
      [
        "max-replicas is 6, but tandem.sh/nodes-per-instance is 2 and step is 2; give 4 or 8",
        "activation-replicas is 1, but tandem.sh/nodes-per-instance is 2 and step is 2; give 4",
        "fallback is 5, but tandem.sh/nodes-per-instance is 2 and step is 2; give 4 or 8",
      ],
    ],
    [{ fallback: "11" }, {}, ["fallback is 11; give hold, or 1 to 10 as the bounds have it"]],
    [{ fallback: "0", "min-replicas": "0" }, {}, []],
    [{ "activation-replicas": "11" }, {}, ["activation-replicas is 11, above max-replicas, which is 10"]],
    [
      { schedule: "Mon 08:00-20:00 UTC min=11; Tue 08:00-20:00 UTC max=0; Wed 08:00-20:00 UTC min=20 max=30" },
      {},
      [
        "schedule has a window with min 11 above max 10, the workload's own bounds included",
        "schedule has a window with min 1 above max 0, the workload's own bounds included",
      ],
    ],
    [{ "panic-window": "61s" }, {}, ["panic-window is 61000 ms, longer than stable-window, which is 60000 ms"]],
  ];
  for (const [keys, spec, messages] of table) t.same(refusals(keys, spec), messages, JSON.stringify(keys));
  t.end();
});

const member = (name: string, role: "prefill" | "decode" | "both", said: Partial<ScalingSpec>): ScaledWorkload => ({
  name,
  role,
  scaling: { ...SCALING, mode: "auto", ...said },
});

t.test("what a group's workloads say of it: any may, the first by name holds, and both are told of", (t) => {
  t.same(groupScaling([]), { scaling: GROUP_SCALING, verdicts: [] });
  const agreed = groupScaling([
    member("b", "decode", { group: { tpotSloMs: 30 }, groupDefaults: { objective: "cost", tpotSloMs: 99 } }),
    member("a", "prefill", { group: { ttftSloMs: 900 } }),
  ]);
  t.same(agreed, {
    scaling: { ...GROUP_SCALING, ttftSloMs: 900, tpotSloMs: 30, objective: "cost" },
    verdicts: [],
  });
  const differing = groupScaling([
    member("c", "decode", { group: { ttftSloMs: 3, prefillPerDecode: [1, 2] } }),
    member("b", "decode", { group: { ttftSloMs: 2, prefillPerDecode: [1, 2] } }),
    member("a", "prefill", {}),
  ]);
  t.equal(differing.scaling.ttftSloMs, 2);
  t.same(
    differing.verdicts.map(({ outcome, reason, message }) => `${outcome} ${reason}: ${message}`),
    ["warned GroupDisagrees: autoscaling.tandem.sh/ttft-slo differs between b and c; that of b holds"],
  );
  t.end();
});

t.test("one role alone does not go to zero", (t) => {
  const told = (...members: ScaledWorkload[]): number => groupScaling(members).verdicts.length;
  const [none, one] = [{ minReplicas: 0 }, { minReplicas: 1 }];
  t.equal(told(member("a", "prefill", none), member("b", "decode", one)), 1);
  t.equal(told(member("a", "prefill", one), member("b", "decode", none)), 1);
  t.equal(told(member("a", "prefill", none), member("b", "decode", none)), 0);
  t.equal(told(member("a", "prefill", none)), 0, "the other half is not there yet");
  t.equal(told(member("a", "prefill", none), member("b", "decode", { ...one, mode: "off" })), 0);
  t.equal(told(member("a", "both", none), member("b", "decode", one)), 0);
  t.equal(
    told(member("a", "prefill", none), member("b", "prefill", one), member("c", "decode", one)),
    0,
    "a variant may, where another of its role stays",
  );
  t.end();
});
