/** Numbers of a chain of reasons, for people. */

/** `31k`, `7.25`, `0.4` */
export function quantity(value: number): string {
  if (value >= 10_000) return `${Math.round(value / 1000)}k`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)}k`;
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

export const whole = (instances: number): string => String(Math.ceil(instances - 1e-9));
