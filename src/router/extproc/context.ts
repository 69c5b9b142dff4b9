/**
 * What Envoy tells beside a message: dynamic metadata (`metadata_context`, field 8) and attributes (field 9).
 *
 * Of the nested Structs only the paths that the endpoint picker protocol names are walked; everything else is skipped
 * by its length. The depth is that of the code, and what is kept is bounded, so no message can make it costly.
 * Format: google.protobuf.Struct (fields = 1: map of Value), Value (string_value = 3, struct_value = 5, list_value = 6).
 */
import { HEADER, LB_METADATA_NAMESPACE, SUBSET_METADATA_NAMESPACE } from "../../kinds/names.ts";
import type { Subset } from "../exchange.ts";
import { eachField, type Reader } from "./wire.ts";

/** Key of our attributes: the filter's name. */
const FILTER = "envoy.filters.http.ext_proc";
/** The attribute in which Envoy names the endpoint that it sent the request to. */
const UPSTREAM_ADDRESS = "upstream.address";
/** Envoy Gateway calls the routes of an HTTPRoute `httproute/NAMESPACE/NAME/rule/...`: nobody else may call one so. */
const ROUTE_NAME = "xds.route_name";
const OF_NAMESPACE = /^(?:http|grpc)route\/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\//;

/** Endpoints of one subset: four times what a router is measured with. */
const MAX_SUBSET = 4096;
/** An IPv6 address with its port has 47 characters; a name may have 253. */
const MAX_ADDRESS = 260;
/** Longer strings are not read. */
const MAX_TEXT = MAX_SUBSET * MAX_ADDRESS;

/** Read off metadata and attributes of one message. */
export interface Context {
  /** Where the request may go. */
  subset?: Subset;
  /** `ip:port` that the request was sent to. */
  served?: string;
  /** Namespace of the route, where its name tells it. */
  namespace?: string;
}

/** core.Metadata: filter_metadata = 1 is a map of Structs. */
export function readMetadata(metadata: Reader, into: Context): void {
  eachEntry(metadata, 1, (namespace, struct) => {
    if (namespace === SUBSET_METADATA_NAMESPACE) eachEntry(struct, 1, (key, value) => readSubset(key, value, into));
    else if (namespace === LB_METADATA_NAMESPACE)
      eachEntry(struct, 1, (key, value) => key === HEADER.destinationServed && readServed(value, into));
  });
}

/** One entry of `attributes`, a map of Structs. Metadata has the last word: only it knows of retries. */
export function readAttributes(entry: Reader, into: Context): void {
  readEntry(entry, (name, struct) => {
    if (name !== FILTER) return;
    eachEntry(struct, 1, (key, value) => {
      if (key === UPSTREAM_ADDRESS && into.served === undefined) readServed(value, into);
      else if (key === ROUTE_NAME) readRoute(value, into);
    });
  });
}

function readServed(value: Reader, into: Context): void {
  const { text } = valueOf(value);
  if (text !== undefined && text.length <= MAX_ADDRESS) into.served = text;
}

function readRoute(value: Reader, into: Context): void {
  const namespace = OF_NAMESPACE.exec(valueOf(value).text ?? "")?.[1];
  if (namespace !== undefined) into.namespace = namespace;
}

function readSubset(key: string, value: Reader, into: Context): void {
  if (key === HEADER.destinationSubset) into.subset = subsetOf(valueOf(value));
}

/** A list of `ip:port`, the same in one string with commas, or a list of such strings. */
function subsetOf({ text, list }: Value): Subset {
  const texts = text === undefined ? list : [text];
  if (texts === undefined) return malformed("neither a string nor a list of strings");
  const addresses = texts.flatMap((each) => each.split(",")).map((each) => each.trim());
  const named = addresses.filter((each) => each !== "");
  if (named.length > MAX_SUBSET) return malformed(`more than ${MAX_SUBSET} endpoints`);
  if (named.some((each) => each.length > MAX_ADDRESS)) return malformed(`an address of over ${MAX_ADDRESS} characters`);
  return { addresses: new Set(named) };
}

const malformed = (what: string): Subset => ({ malformed: what });

/** As far as anything here asks: a string, or a list of nothing but strings. */
interface Value {
  readonly text?: string;
  readonly list?: readonly string[];
}

function valueOf(reader: Reader): Value {
  let value: Value = {};
  eachField(reader, (field, inner) => {
    if (field === 3) value = textOf(inner.bytes());
    else if (field === 6) value = listOf(inner.message());
    else return false;
    return true;
  });
  return value;
}

const textOf = (bytes: Buffer): Value => (bytes.length > MAX_TEXT ? {} : { text: bytes.toString("utf8") });

/** ListValue: values = 1. Reading ends with the first that is no string, or is one too many. */
function listOf(reader: Reader): Value {
  const list: string[] = [];
  let other = 0;
  eachField(reader, (field, inner) => {
    if (field !== 1 || other > 0 || list.length > MAX_SUBSET) return false;
    const text = stringOf(inner.message());
    if (text === undefined) other += 1;
    else list.push(text);
    return true;
  });
  return other === 0 ? { list } : {};
}

function stringOf(reader: Reader): string | undefined {
  let text: string | undefined;
  eachField(reader, (field, inner) => {
    if (field !== 3) return false;
    text = inner.text();
    return true;
  });
  return text;
}

/** Entries of the map in `field`: each a message of key = 1 and value = 2. */
function eachEntry(reader: Reader, field: number, visit: (key: string, value: Reader) => void): void {
  eachField(reader, (number, inner) => {
    if (number !== field) return false;
    readEntry(inner.message(), visit);
    return true;
  });
}

/** Keys come before values in every encoder there is; an entry the other way round is not looked at. */
function readEntry(entry: Reader, visit: (key: string, value: Reader) => void): void {
  let key = "";
  eachField(entry, (field, inner) => {
    if (field === 1) key = inner.text();
    else if (field === 2) visit(key, inner.message());
    else return false;
    return true;
  });
}
