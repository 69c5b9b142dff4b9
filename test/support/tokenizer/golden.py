"""Fills in the ids of test/golden/tokenize/chats.json: what Transformers makes of the small tokenizer of the tests.

    pip install transformers jinja2 && python test/support/tokenizer/golden.py

`given` is what an engine hands to Transformers for `body`: its own decoding of the request, written by hand.
"""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
CASES = HERE.parent.parent / "golden" / "tokenize" / "chats.json"

tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(HERE / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|pad|>"
)
tokenizer.chat_template = (HERE / "chat_template.jinja").read_text()


def ids(given):
    if "prompt" in given:
        return tokenizer.encode(given["prompt"])
    return tokenizer.apply_chat_template(
        given["messages"], tools=given.get("tools"), tokenize=True, return_dict=False, **given.get("settings", {})
    )


cases = json.loads(CASES.read_text())
for case in cases:
    case["ids"] = ids(case["given"])
CASES.write_text(json.dumps(cases, ensure_ascii=False, indent=2) + "\n")
