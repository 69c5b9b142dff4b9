/**
 * Makes the small tokenizer of the tests: `node test/support/tokenizer/build.ts`. Byte-level BPE trained on the licence,
 * cut at 1500 tokens, with special tokens and a chat template in ChatML, as Qwen's are.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteLevelAlphabet, Tokenizer } from "tokenizers";

const here = import.meta.dirname;
const VOCABULARY = 1500;
/** Letters, single digits, punctuation, spaces: the cuts of Qwen's tokenizer. */
const PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"];
/** Cut out of text like the others, and not special. */
const PLAIN = ["<tool_call>", "</tool_call>"];

interface Saved {
  model: { vocab: Record<string, number>; merges: [string, string][] };
}

/** The file, with this model in it. */
function fileOf({ vocab, merges }: Saved["model"], added: readonly object[]): string {
  const pretokenizers = [
    { type: "Split", pattern: { Regex: PATTERN }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  ];
  return JSON.stringify({
    version: "1.0",
    // As in training; what tokenizes for an engine must not heed it.
    truncation: { direction: "Right", max_length: 512, strategy: "LongestFirst", stride: 0 },
    added_tokens: added,
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "Sequence", pretokenizers },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab, merges },
  });
}

/** What training made, with every byte in it and no more merges than fit. */
function trained(): Saved["model"] {
  const tokenizer = Tokenizer.fromString(fileOf({ vocab: {}, merges: [] }, []));
  const [corpus, saved] = [join(here, "corpus.tmp"), join(here, "saved.tmp")];
  const licence = readFileSync(join(here, "../../../LICENSE"), "utf8");
  const more = "你好，世界。 café déjà vu 🙂 0123456789 <html> def f(x):\n    return x\n";
  writeFileSync(corpus, licence + more.repeat(3));
  tokenizer.train([corpus]);
  tokenizer.save(saved);
  const { model } = JSON.parse(readFileSync(saved, "utf8")) as Saved;
  rmSync(corpus);
  rmSync(saved);
  const alphabet = byteLevelAlphabet().sort();
  const merges = model.merges.slice(0, VOCABULARY - alphabet.length);
  const words = [...new Set([...alphabet, ...merges.map((pair) => pair.join(""))])];
  return { vocab: Object.fromEntries(words.map((word, id) => [word, id])), merges };
}

const model = trained();
const size = Object.keys(model.vocab).length;
const added = [...SPECIAL, ...PLAIN].map((content, index) => ({
  ...{ id: size + index, content, single_word: false, lstrip: false, rstrip: false, normalized: false },
  special: SPECIAL.includes(content),
}));
writeFileSync(join(here, "tokenizer.json"), `${fileOf(model, added)}\n`);

const TEMPLATE = `{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant\\n' + (message.content or '') }}
        {%- for call in message.tool_calls %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
`;
writeFileSync(join(here, "chat_template.jinja"), TEMPLATE);
writeFileSync(
  join(here, "tokenizer_config.json"),
  `${JSON.stringify({ bos_token: null, eos_token: "<|im_end|>", pad_token: { content: "<|pad|>" } }, undefined, 2)}\n`,
);
