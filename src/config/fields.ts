/** What keys of the configuration are made of: a default, a description, and what is accepted. */
import Type, { type TBoolean, type TEnum, type TInteger, type TNumber, type TString } from "typebox";

export const closed = { additionalProperties: false };
export const text = (value: string, description: string): TString => Type.String({ default: value, description });
/** 0 to 65535. */
export const PORT = "(\\d{1,4}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d{2}|655[0-2]\\d|6553[0-5])";
export const listen = (value: string, description: string): TString =>
  Type.String({
    default: value,
    description,
    pattern: `^(|\\[[0-9a-fA-F:]+\\]:${PORT}|[^:\\s]*:${PORT})$`,
    accepts: "host:port, or empty for off",
  });
/** Written into pods: a wrong one would have every pod refused. */
export const quantity = (value: string, description: string): TString =>
  Type.String({
    default: value,
    description,
    pattern: "^[1-9]\\d{0,15}([KMGTPE]i|[kMGTPE])?$",
    accepts: "a Kubernetes quantity, as 16Gi",
  });
export const integer = (value: number, minimum: number, maximum: number, description: string): TInteger =>
  Type.Integer({ default: value, minimum, maximum, description });
export const number = (value: number, minimum: number, maximum: number, description: string): TNumber =>
  Type.Number({ default: value, minimum, maximum, description });
export const flag = (value: boolean, description: string): TBoolean => Type.Boolean({ default: value, description });
export const oneOf = <const V extends string[]>(
  values: readonly [...V],
  value: V[number],
  description: string,
): TEnum<V> => Type.Enum<V>(values, { default: value, description });
