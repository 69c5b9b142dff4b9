/**
 * A stand-in for a model's tokenizer and chat template: no vocabulary, but the properties that caching depends on.
 *
 * Text is cut from the left into pieces of words (about four bytes each for English), so equal prefixes give equal
 * tokens; special tokens are hard boundaries, so a chat with one more turn begins with the tokens of the chat before
 * it. An id is a 31-bit hash of its piece. Nothing can be decoded again.
 */
export interface ChatMessage {
  readonly role: string;
  /** Text, or parts of which those of type `text` are text. Absent in messages of tool calls. */
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/**
 * Special tokens; words cut after 6 letters with the space before them; scripts without spaces cut after 2 letters;
 * digits after 3; runs of space and of everything else after 4.
 */
const PIECE =
  /<\|[a-z_]{1,20}\|>| ?(?:[\p{Lu}\p{Ll}\p{Lt}\p{Lm}\p{M}]{1,6}|\p{Lo}{1,2}|\p{N}{1,3})|\s{1,4}|[^\s\p{L}\p{M}\p{N}]{1,4}?(?=<\|)|[^\s\p{L}\p{M}\p{N}]{1,4}/gu;

/** No piece is longer (a special token), so `length / this` is a lower bound of the number of tokens. */
export const MAX_PIECE_LENGTH = 24;

/** FNV-1a over UTF-16 units, folded to 31 bits: ids are positive integers that JSON and Int32Array hold. */
export function tokenId(piece: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < piece.length; i += 1) hash = Math.imul(hash ^ piece.charCodeAt(i), 0x01000193);
  return (hash >>> 1) ^ (hash & 1);
}

export const END_OF_TURN = "<|im_end|>";

export const tokenize = (text: string): number[] => (text.match(PIECE) ?? []).map(tokenId);

/** The text of a part of a message. What is not text (an image) becomes one placeholder and a hash of its content. */
function renderPart(part: unknown): string {
  if (typeof part === "string") return part;
  if (typeof part !== "object" || part === null) return "";
  if ("text" in part && typeof part.text === "string") return part.text;
  return `<|vision_pad|>${tokenId(JSON.stringify(part)).toString(16)}`;
}

function renderContent(content: unknown): string {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map(renderPart).join("") : "";
}

const renderMessage = (message: ChatMessage): string => {
  const calls = message["tool_calls"] === undefined ? "" : JSON.stringify(message["tool_calls"]);
  return `<|im_start|>${message.role}\n${renderContent(message.content)}${calls}${END_OF_TURN}\n`;
};

/** Renders a chat like a ChatML template: tools first, every turn closed, then the opening of the answer. */
export function renderChat(messages: readonly ChatMessage[], tools?: unknown, openAnswer = true): string {
  const head =
    tools === undefined || tools === null ? "" : `<|im_start|>tools\n${JSON.stringify(tools)}${END_OF_TURN}\n`;
  return head + messages.map(renderMessage).join("") + (openAnswer ? "<|im_start|>assistant\n" : "");
}
