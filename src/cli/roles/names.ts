/** The roles that `tandem serve` runs. */
export const roleNames = ["admission", "extender", "controller", "router", "autoscaler"] as const;

export type RoleName = (typeof roleNames)[number];

/** A comma list of roles, or undefined with the word that is none. */
export function parseRoles(text: string): { readonly roles: ReadonlySet<RoleName> } | { readonly unknown: string } {
  const words = text.split(",").map((word) => word.trim());
  const unknown = words.find((word) => !roleNames.some((role) => role === word));
  return unknown === undefined ? { roles: new Set(words as RoleName[]) } : { unknown };
}
