/**
 * How a chat template wants the content of a message: as one text, or as a list of parts. Engines find out by reading the
 * template, and join the parts where it wants text: a template that goes over `message['content']` wants parts.
 */
export type ContentFormat = "text" | "parts";

/** A node of the parsed template. */
export type Node = Readonly<Record<string, unknown>> & { readonly type?: string };

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value;

/** Deeper templates do not exist; a file that pretends to be one must not end the thread. */
const MAX_DEPTH = 200;

/** Every node of a kind, in the order of the template. */
function* nodesOf(value: unknown, type: string, depth = 0): Generator<Node> {
  if (depth > MAX_DEPTH || typeof value !== "object" || value === null) return;
  if (isNode(value) && value.type === type) yield value;
  for (const each of Object.values(value)) yield* nodesOf(each, type, depth + 1);
}

/** What is behind filters, tests and slices. */
function bare(node: unknown): unknown {
  if (!isNode(node)) return node;
  if (node.type === "FilterExpression" || node.type === "TestExpression") return bare(node["operand"]);
  const property = node["property"];
  return node.type === "MemberExpression" && isNode(property) && property.type === "SliceExpression"
    ? bare(node["object"])
    : node;
}

const nameOf = (node: unknown): string | undefined =>
  isNode(node) && node.type === "Identifier" && typeof node["value"] === "string" ? node["value"] : undefined;

/** `x['content']` and `x.content` of a name among these. */
function isContentOf(node: unknown, names: ReadonlySet<string>): boolean {
  if (!isNode(node) || node.type !== "MemberExpression" || !isNode(node["property"])) return false;
  return node["property"]["value"] === "content" && names.has(nameOf(bare(node["object"])) ?? "");
}

/** Names that are set to what `holds` says, directly or by way of each other. */
function setTo(template: unknown, holds: (value: unknown, names: ReadonlySet<string>) => boolean): Set<string> {
  const names = new Set<string>();
  for (const node of nodesOf(template, "Set")) {
    const name = nameOf(node["assignee"]);
    if (name !== undefined && holds(bare(node["value"]), names)) names.add(name);
  }
  return names;
}

/** The format that a parsed template wants. */
export function formatOf(template: unknown): ContentFormat {
  const isMessages = (value: unknown, names: ReadonlySet<string>): boolean =>
    nameOf(value) === "messages" || names.has(nameOf(value) ?? "");
  const lists = setTo(template, isMessages);
  const loops = [...nodesOf(template, "For")];
  const messages = new Set(
    loops.filter((loop) => isMessages(bare(loop["iterable"]), lists)).map((loop) => nameOf(loop["loopvar"]) ?? ""),
  );
  const contents = setTo(template, (value, names) => isContentOf(value, messages) || names.has(nameOf(value) ?? ""));
  const overContent = loops.some((loop) => {
    const over = bare(loop["iterable"]);
    return isContentOf(over, messages) || contents.has(nameOf(over) ?? "");
  });
  return overContent ? "parts" : "text";
}
