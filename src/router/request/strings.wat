;; Where a JSON string ends, sixteen bytes at a time (RFC 8259, section 7). `scripts/wasm.ts` assembles this file into
;; strings.wasm.ts.
(module
  (memory (export "memory") 2)

  (func $isHex (param $byte i32) (result i32)
    (i32.or
      (i32.lt_u (i32.sub (local.get $byte) (i32.const 48)) (i32.const 10))
      (i32.lt_u (i32.sub (i32.or (local.get $byte) (i32.const 32)) (i32.const 97)) (i32.const 6))))

  ;; `"` and `/`; of the bytes from 0x40 on `\`, b, f, n, r and t, as bits of one word.
  (func $isEscape (param $byte i32) (result i32)
    (i32.or
      (i32.or (i32.eq (local.get $byte) (i32.const 0x22)) (i32.eq (local.get $byte) (i32.const 0x2f)))
      (i32.and
        (i32.lt_u (i32.sub (local.get $byte) (i32.const 0x40)) (i32.const 64))
        (i32.wrap_i64
          (i64.and
            (i64.shr_u
              (i64.const 0x0014404410000000)
              (i64.extend_i32_u (i32.sub (local.get $byte) (i32.const 0x40))))
            (i64.const 1))))))

  ;; The string that goes on at `$at`, in bytes that end at `$limit`: where its closing quote stands. Where the bytes end
  ;; before it, the complement of where to go on, which is never inside an escape. At a control character or at an escape
  ;; that JSON has not, its position and bit 30.
  (func (export "end") (param $at i32) (param $limit i32) (result i32)
    (local $bytes v128) (local $mask i32) (local $byte i32)
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $limit)) (then (return (i32.xor (local.get $limit) (i32.const -1)))))
      (local.set $bytes (v128.load align=1 (local.get $at)))
      (local.set $mask
        (i8x16.bitmask
          (v128.or
            (i8x16.lt_u (local.get $bytes) (i8x16.splat (i32.const 0x20)))
            (v128.or
              (i8x16.eq (local.get $bytes) (i8x16.splat (i32.const 0x22)))
              (i8x16.eq (local.get $bytes) (i8x16.splat (i32.const 0x5c)))))))
      (if (i32.eqz (local.get $mask))
        (then
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (br $next)))
      (local.set $at (i32.add (local.get $at) (i32.ctz (local.get $mask))))
      (if (i32.ge_u (local.get $at) (local.get $limit)) (then (return (i32.xor (local.get $limit) (i32.const -1)))))
      (local.set $byte (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $byte) (i32.const 0x22)) (then (return (local.get $at))))
      (if (i32.ne (local.get $byte) (i32.const 0x5c))
        (then (return (i32.or (local.get $at) (i32.const 0x40000000)))))
      (if (i32.ge_u (i32.add (local.get $at) (i32.const 1)) (local.get $limit))
        (then (return (i32.xor (local.get $at) (i32.const -1)))))
      (local.set $byte (i32.load8_u offset=1 (local.get $at)))
      (if (call $isEscape (local.get $byte))
        (then
          (local.set $at (i32.add (local.get $at) (i32.const 2)))
          (br $next)))
      (if (i32.ne (local.get $byte) (i32.const 0x75))
        (then (return (i32.or (local.get $at) (i32.const 0x40000000)))))
      (if (i32.gt_u (i32.add (local.get $at) (i32.const 6)) (local.get $limit))
        (then (return (i32.xor (local.get $at) (i32.const -1)))))
      (if
        (i32.and
          (i32.and
            (call $isHex (i32.load8_u offset=2 (local.get $at)))
            (call $isHex (i32.load8_u offset=3 (local.get $at))))
          (i32.and
            (call $isHex (i32.load8_u offset=4 (local.get $at)))
            (call $isHex (i32.load8_u offset=5 (local.get $at)))))
        (then
          (local.set $at (i32.add (local.get $at) (i32.const 6)))
          (br $next)))
      (return (i32.or (local.get $at) (i32.const 0x40000000))))
    (unreachable)))
