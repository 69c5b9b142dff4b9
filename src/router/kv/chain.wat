;; The chained hash of a whole prompt in one call: XXH64 (Yann Collet's specification, doc/xxhash_spec.md) of each block,
;; seeded with the hash of the block before it. `scripts/wasm.ts` assembles this file into chain.wasm.ts.
(module
  (memory (export "memory") 2)

  (global $P1 i64 (i64.const 0x9E3779B185EBCA87))
  (global $P2 i64 (i64.const 0xC2B2AE3D27D4EB4F))
  (global $P3 i64 (i64.const 0x165667B19E3779F9))
  (global $P4 i64 (i64.const 0x85EBCA77C2B2AE63))
  (global $P5 i64 (i64.const 0x27D4EB2F165667C5))

  (func $round (param $acc i64) (param $input i64) (result i64)
    (i64.mul
      (i64.rotl (i64.add (local.get $acc) (i64.mul (local.get $input) (global.get $P2))) (i64.const 31))
      (global.get $P1)))

  (func $merge (param $hash i64) (param $lane i64) (result i64)
    (i64.add
      (i64.mul
        (i64.xor (local.get $hash) (call $round (i64.const 0) (local.get $lane)))
        (global.get $P1))
      (global.get $P4)))

  ;; Stripes of 32 bytes through four lanes; `$end` is where the last whole stripe ends.
  (func $stripes (param $at i32) (param $end i32) (param $seed i64) (result i64)
    (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $hash i64)
    (local.set $a (i64.add (i64.add (local.get $seed) (global.get $P1)) (global.get $P2)))
    (local.set $b (i64.add (local.get $seed) (global.get $P2)))
    (local.set $c (local.get $seed))
    (local.set $d (i64.sub (local.get $seed) (global.get $P1)))
    (loop $next
      (local.set $a (call $round (local.get $a) (i64.load (local.get $at))))
      (local.set $b (call $round (local.get $b) (i64.load offset=8 (local.get $at))))
      (local.set $c (call $round (local.get $c) (i64.load offset=16 (local.get $at))))
      (local.set $d (call $round (local.get $d) (i64.load offset=24 (local.get $at))))
      (br_if $next
        (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (local.get $end))))
    (local.set $hash
      (i64.add
        (i64.add (i64.rotl (local.get $a) (i64.const 1)) (i64.rotl (local.get $b) (i64.const 7)))
        (i64.add (i64.rotl (local.get $c) (i64.const 12)) (i64.rotl (local.get $d) (i64.const 18)))))
    (local.set $hash (call $merge (local.get $hash) (local.get $a)))
    (local.set $hash (call $merge (local.get $hash) (local.get $b)))
    (local.set $hash (call $merge (local.get $hash) (local.get $c)))
    (call $merge (local.get $hash) (local.get $d)))

  ;; What is left behind the stripes: words of 8 and 4 bytes, then bytes.
  (func $tail (param $at i32) (param $end i32) (param $hash i64) (result i64)
    (block $words
      (loop $word
        (br_if $words (i32.lt_u (i32.sub (local.get $end) (local.get $at)) (i32.const 8)))
        (local.set $hash (i64.xor (local.get $hash) (call $round (i64.const 0) (i64.load (local.get $at)))))
        (local.set $hash
          (i64.add (i64.mul (i64.rotl (local.get $hash) (i64.const 27)) (global.get $P1)) (global.get $P4)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $word)))
    (if (i32.ge_u (i32.sub (local.get $end) (local.get $at)) (i32.const 4))
      (then
        (local.set $hash
          (i64.xor (local.get $hash) (i64.mul (i64.load32_u (local.get $at)) (global.get $P1))))
        (local.set $hash
          (i64.add (i64.mul (i64.rotl (local.get $hash) (i64.const 23)) (global.get $P2)) (global.get $P3)))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))))
    (block $bytes
      (loop $byte
        (br_if $bytes (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $hash
          (i64.xor (local.get $hash) (i64.mul (i64.load8_u (local.get $at)) (global.get $P5))))
        (local.set $hash (i64.mul (i64.rotl (local.get $hash) (i64.const 11)) (global.get $P1)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $byte)))
    (local.get $hash))

  (func $avalanche (param $hash i64) (result i64)
    (local.set $hash
      (i64.mul (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 33))) (global.get $P2)))
    (local.set $hash
      (i64.mul (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29))) (global.get $P3)))
    (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 32))))

  (func $xxh64 (param $at i32) (param $bytes i32) (param $seed i64) (result i64)
    (local $hash i64) (local $whole i32)
    (local.set $whole (i32.and (local.get $bytes) (i32.const -32)))
    (local.set $hash
      (if (result i64) (local.get $whole)
        (then (call $stripes (local.get $at) (i32.add (local.get $at) (local.get $whole)) (local.get $seed)))
        (else (i64.add (local.get $seed) (global.get $P5)))))
    (call $avalanche
      (call $tail
        (i32.add (local.get $at) (local.get $whole))
        (i32.add (local.get $at) (local.get $bytes))
        (i64.add (local.get $hash) (i64.extend_i32_u (local.get $bytes))))))

  ;; Hashes `$count` blocks of `$bytes` bytes each from `$at`. The seed of the first is read from address 0 and the hash of
  ;; the last is left there, so that a long prompt goes through a small memory; the hash of each block goes to `$out`.
  (func (export "chain") (param $at i32) (param $bytes i32) (param $count i32) (param $out i32)
    (local $hash i64)
    (local.set $hash (i64.load (i32.const 0)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $hash (call $xxh64 (local.get $at) (local.get $bytes) (local.get $hash)))
        (i64.store (local.get $out) (local.get $hash))
        (local.set $at (i32.add (local.get $at) (local.get $bytes)))
        (local.set $out (i32.add (local.get $out) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i64.store (i32.const 0) (local.get $hash))))
