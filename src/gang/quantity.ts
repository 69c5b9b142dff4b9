/** Kubernetes quantities (`2`, `1500m`, `16Gi`, `1e3`), as `k8s.io/apimachinery/pkg/api/resource` writes them. */

const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

const QUANTITY = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/;

/** The quantity as a number of its unit; undefined for what is not a quantity. */
export function parseQuantity(quantity: string | number): number | undefined {
  const found = QUANTITY.exec(String(quantity));
  if (found === null) return undefined;
  const [, digits, exponent, suffix = ""] = found;
  return Number(digits) * (exponent === undefined ? (FACTORS[suffix] ?? 1) : 10 ** Number(exponent));
}

/** Rounding up must not see the last bit of a float: 1.1 cores are 1100.0000000000002 thousandths. */
const EPSILON = 1e-6;

/**
 * The quantity in the whole units that kube-scheduler counts in: thousandths of a core for `cpu`, else bytes or devices,
 * rounded up. Whole numbers add up and subtract without drift. What is not a quantity counts as 0.
 */
export function amountOf(resource: string, quantity: string | number): number {
  const value = (parseQuantity(quantity) ?? 0) * (resource === "cpu" ? 1000 : 1);
  return Math.max(0, Math.ceil(value - EPSILON));
}

/** For people: `1500m`, `16Gi`, `8`. */
export function formatAmount(resource: string, amount: number): string {
  if (resource === "cpu") return amount % 1000 === 0 ? String(amount / 1000) : `${amount}m`;
  const suffix = ["Ti", "Gi", "Mi", "Ki"].find((unit) => amount !== 0 && amount % (FACTORS[unit] ?? 1) === 0);
  return suffix === undefined || resource.includes("/")
    ? String(amount)
    : `${amount / (FACTORS[suffix] ?? 1)}${suffix}`;
}
