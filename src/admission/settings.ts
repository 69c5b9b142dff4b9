/**
 * Names in the configuration of admission that must exist: device profiles, keys and modes. The schema takes any text
 * there; one that nothing answers to would bind nothing, and say so nowhere.
 */
import { globMatches } from "../kinds/glob.ts";
import { nearest } from "../kinds/nearest.ts";
import { LABEL, RESERVED } from "../kinds/names.ts";
import { configuredDevices, deviceNames } from "../profiles/devices.ts";
import { ALL_KEYS, MODES } from "../workload/keys.ts";
import type { Settings } from "./stage.ts";

interface Known {
  readonly names: readonly string[];
  /** Names that belong to others, and are not listed. */
  readonly open?: (value: string) => boolean;
  /** Beside the names, in words. */
  readonly also?: string;
}

const KEYS: Known = {
  names: [...new Set([...ALL_KEYS.map(({ key }) => key), ...Object.values(LABEL)])],
  open: (value) => RESERVED.some((prefix) => value.startsWith(prefix) || globMatches(value, `${prefix}weight`)),
  also: RESERVED.map((prefix) => `${prefix}*`).join(", "),
};

/** Problems, each with path, value, the nearest name and the accepted ones. */
export function settingsProblems(settings: Settings): readonly string[] {
  const profiles = deviceNames(configuredDevices(settings));
  const accelerators: Known = {
    names: profiles,
    open: (value) => value.includes("/"),
    also: "the name of an extended resource",
  };
  const { defaultProfile } = settings;
  return [
    ...(defaultProfile === "" ? [] : unknown("admission.defaultProfile", defaultProfile, { names: profiles })),
    ...settings.policy.flatMap((rule, index) => {
      const at = `admission.policy.${index}`;
      return [
        ...unknownIn(`${at}.keys`, rule.keys, KEYS),
        ...unknownIn(`${at}.deniedKeys`, rule.deniedKeys, KEYS),
        ...unknownIn(`${at}.modes`, rule.modes, { names: MODES }),
        ...unknownIn(`${at}.accelerators`, rule.accelerators, accelerators),
      ];
    }),
  ];
}

const unknownIn = (path: string, values: readonly string[] | undefined, known: Known): readonly string[] =>
  (values ?? []).flatMap((value, index) => unknown(`${path}.${index}`, value, known));

/** A pattern is known where it fits a name. */
function unknown(path: string, value: string, { names, open, also }: Known): readonly string[] {
  if (names.some((name) => globMatches(value, name)) || open?.(value) === true) return [];
  const near = nearest(value, names);
  const accepted = [...names, ...(also === undefined ? [] : [also])].join(", ");
  return [
    `${path}: ${JSON.stringify(value)} is not known${near === undefined ? "" : `, did you mean ${near}?`}; give one of ${accepted}`,
  ];
}
