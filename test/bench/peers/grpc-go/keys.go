package main

import (
	"github.com/cespare/xxhash/v2"
)

// hasher makes the block keys of prompts: XXH64 of each block, seeded with the key of the block before.
type hasher struct {
	blockBytes int
	digest     xxhash.Digest
}

// keys appends a key for each whole block of text. The first block is seeded with the hash of the model's name.
func (h *hasher) keys(dst []uint64, text []byte, model string) []uint64 {
	h.digest.ResetWithSeed(0)
	_, _ = h.digest.WriteString(model)
	seed := h.digest.Sum64()
	for ; len(text) >= h.blockBytes; text = text[h.blockBytes:] {
		h.digest.ResetWithSeed(seed)
		_, _ = h.digest.Write(text[:h.blockBytes])
		seed = h.digest.Sum64()
		dst = append(dst, seed)
	}
	return dst
}
