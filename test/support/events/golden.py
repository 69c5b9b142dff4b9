"""Golden payloads of KV events, one for each wire version, as msgspec encodes them: the encoder that engines use.

Written anew by: pip install msgspec==0.22.0 && python test/support/events/golden.py > test/golden/events/payloads.json
Struct layouts follow vLLM's vllm/distributed/kv_events.py by release, and SGLang's
python/sglang/srt/disaggregation/kv_events.py.
"""
import json
from typing import Any, Optional, Union

import msgspec

BIG = 0xF123456789ABCDEF
SMALL = 7
TIME = 1782000000.25


def struct(name, fields, array, tagged=True):
    """A struct as engines declare them: array or map, unset fields left out where they are at the end."""
    return msgspec.defstruct(
        name, fields, array_like=array, omit_defaults=True, gc=False, tag=name if tagged else None
    )


ANY = Any
BASE = [("block_hashes", ANY), ("parent_block_hash", ANY), ("token_ids", ANY), ("block_size", int), ("lora_id", ANY)]
MORE = [
    ("medium", ANY, None),
    ("lora_name", ANY, None),
    ("extra_keys", ANY, None),
    ("group_idx", ANY, None),
    ("kv_cache_spec_kind", ANY, None),
    ("kv_cache_spec_sliding_window", ANY, None),
    ("locality", ANY, None),
]
REMOVED = [("block_hashes", ANY)]
REMOVED_MORE = [("medium", ANY, None), ("group_idx", ANY, None), ("locality", ANY, None)]


def types(stored_more, removed_more, array):
    # A field without a default must not stand behind one that has it: engines have `medium` without one since 0.10.2.
    stored = struct("BlockStored", BASE + MORE[:stored_more], array)
    removed = struct("BlockRemoved", REMOVED + REMOVED_MORE[:removed_more], array)
    cleared = struct("AllBlocksCleared", [], array)
    return stored, removed, cleared


def batch(events, rank=None, array=True, has_rank=True):
    fields = [("ts", float), ("events", ANY)] + ([("data_parallel_rank", ANY, None)] if has_rank else [])
    kind = msgspec.defstruct("Batch", fields, array_like=array, omit_defaults=True)
    value = kind(TIME, events, rank) if has_rank else kind(TIME, events)
    return msgspec.msgpack.encode(value).hex()


def expected(kind, **more):
    return {"kind": kind, **more}


def stored(hashes, parent, tokens, size, tier="device", lora=None, salt=None, full=True, group=0, extra=False):
    return expected(
        "stored",
        hashes=[str(each) for each in hashes],
        parent=None if parent is None else str(parent),
        tokens=tokens,
        blockSize=size,
        tier=tier,
        lora=lora,
        salt=salt,
        isFull=full,
        group=group,
        extra=extra,
    )


def removed(hashes, tier="device", group=0):
    return expected("removed", hashes=[str(each) for each in hashes], tier=tier, group=group)


cases = []


def case(name, payload, events, rank=None):
    cases.append({"name": name, "payload": payload, "time": TIME, "rank": rank, "events": events})


tokens = [1, 127, 128, 65535, 65536, 151643, 7, 0]
TWO = [BIG, SMALL]
for name, more, gone, array, rank in [
    ("vllm 0.9.0", 0, 0, True, False),
    ("vllm 0.11", 1, 1, True, True),
    ("vllm 0.14", 2, 1, True, True),
    ("vllm 0.17", 3, 1, True, True),
    ("vllm 0.20", 4, 2, True, True),
    ("vllm 0.22", 6, 2, True, True),
    ("vllm 0.24", 6, 2, False, True),
    ("vllm 0.26", 7, 3, False, True),
]:
    Stored, Removed, Cleared = types(more, gone, array)
    extra = [None, "GPU", "an-adapter", [("an-adapter", "a-salt"), None], 1, "full_attention", None, "LOCAL"]
    values = [TWO, BIG - 1, tokens, 4, 3] + extra[1 : more + 1]
    adapter = "an-adapter" if more >= 2 else "#3"
    salt = "a-salt" if more >= 3 else None
    group = 1 if more >= 4 else 0
    gone_values = [[BIG], "GPU", 1, None][: gone + 1]
    case(
        name,
        batch([Stored(*values), Removed(*gone_values), Cleared()], 2 if rank else None, True, rank),
        [
            stored(TWO, BIG - 1, tokens, 4, lora=adapter, salt=salt, group=group),
            removed([BIG], group=1 if gone >= 2 else 0),
            expected("cleared"),
        ],
        2 if rank else None,
    )

Stored, Removed, Cleared = types(7, 3, False)
case("map batch of maps", batch([Stored([SMALL], None, [5, 6], 2, None), Cleared()], 0, False), [
    stored([SMALL], None, [5, 6], 2), expected("cleared")], 0)
case("bytes hashes of 32", batch([Stored([bytes(range(32))], bytes(range(8, 40)), [5, 6], 2, None)]), [
    stored([int.from_bytes(bytes(range(24, 32)), "big")], int.from_bytes(bytes(range(32, 40)), "big"), [5, 6], 2)])
case("bytes hashes of 16", batch([Removed([bytes(range(16))])]), [removed([int.from_bytes(bytes(range(8, 16)), "big")])])
case("sliding window", batch([Stored(TWO, None, tokens, 4, None, "GPU", None, None, 2, "sliding_window", 4096)]), [
    stored(TWO, None, tokens, 4, full=False, group=2)])
case("masked group", batch([Stored([BIG], None, tokens, 4, None, "GPU")]), [stored([BIG], None, tokens, 4)])
case("tier update without tokens", batch([Stored([BIG], None, [], 0, None, "CPU"), Removed([BIG], "FS")]), [
    stored([BIG], None, [], 0, tier="host"), removed([BIG], tier="shared")])
case("images", batch([Stored([BIG], None, [5, 6], 2, None, "GPU", None, [(("an-image", 3),)])]), [
    stored([BIG], None, [5, 6], 2, extra=True)])
Stored, Removed, Cleared = types(1, 1, True)
case("pool of vllm-ascend", batch([Stored([SMALL], None, list(range(128)), 128, None, "cpu")]), [
    stored([SMALL], None, list(range(128)), 128, tier="shared")])

# SGLang: one event a page, signed hashes, the rank left out.
signed = BIG - 2**64
Stored0, Removed0, _ = types(0, 0, True)
case("sglang of 6 fields", batch([Stored0([signed], None, [9], 1, None), Removed0([signed])]), [
    stored([BIG], None, [9], 1), removed([BIG])])
case("sglang of 7 fields", batch([
    Stored([signed], -2, [9, 10], 2, None, "CPU_PINNED"), Removed([signed], "DISK"), Removed([signed], "EXTERNAL")]), [
    stored([BIG], 2**64 - 2, [9, 10], 2, tier="host"), removed([BIG], "shared"), removed([BIG], "shared")])
case("sglang with EAGLE", batch([Stored([signed], None, [(9, 10), (10, 11)], 2, None, "GPU")]), [
    stored([BIG], None, [9, 10], 2)])
seven = msgspec.defstruct("BlockStored", BASE + [("medium", ANY), ("metadata", ANY)], array_like=True, tag="BlockStored")
case("sglang with a map at 7", batch([seven([signed], None, [9], 1, None, "GPU", {"a": [1, 2]})]), [
    stored([BIG], None, [9], 1)])

print(json.dumps(cases, indent=1))
