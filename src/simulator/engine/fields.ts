/**
 * Fields of a JSON body, decoded one by one, and the errors they give in vLLM's shape.
 *
 * vLLM has two kinds of 400: a field of the wrong type fails the schema (`type` "Bad Request"), a value out of range
 * fails a check (`type` "BadRequestError"). A field that is null counts as absent.
 */
import { isObject } from "../../kinds/kube.ts";

/** An answer other than 200, in vLLM's shape. */
export class WireError extends Error {
  readonly status: number;
  readonly type: string;
  readonly param: string | null;

  constructor(status: number, type: string, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.type = type;
    this.param = param;
  }

  get body(): unknown {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.status } };
  }
}

export type Body = Readonly<Record<string, unknown>>;

export const schemaError = (kind: string, field: string, message: string): WireError => {
  const place = field === "" ? "('body',)" : `('body', '${field}')`;
  return new WireError(
    400,
    "Bad Request",
    `1 validation error:\n  {'type': '${kind}', 'loc': ${place}, 'msg': '${message}'}`,
  );
};

export const valueError = (message: string, param: string | null = null): WireError =>
  new WireError(400, "BadRequestError", message, param);

/** Parses the text of a body; it must be a JSON object. */
export function parseBody(text: string): Body {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw schemaError("json_invalid", "", "JSON decode error");
  }
  if (!isObject(value)) throw schemaError("model_attributes_type", "", "Input should be a valid dictionary");
  return value;
}

export function optionalNumber(body: Body, field: string, isInteger: boolean): number | undefined {
  const value = body[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number")
    throw schemaError(
      isInteger ? "int_type" : "float_type",
      field,
      `Input should be a valid ${isInteger ? "integer" : "number"}`,
    );
  if (isInteger && !Number.isInteger(value))
    throw schemaError("int_from_float", field, "Input should be a valid integer, got a number with a fractional part");
  return value;
}

export function optionalBoolean(body: Body, field: string): boolean {
  const value = body[field];
  if (value === undefined || value === null) return false;
  if (typeof value !== "boolean") throw schemaError("bool_type", field, "Input should be a valid boolean");
  return value;
}

export function optionalString(body: Body, field: string): string | undefined {
  const value = body[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw schemaError("string_type", field, "Input should be a valid string");
  return value;
}

export function optionalRecord(body: Body, field: string): Body | undefined {
  const value = body[field];
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw schemaError("dict_type", field, "Input should be a valid dictionary");
  return value;
}
