package main

import "math/bits"

// index tells which endpoints hold which block. It has two generations: what is recorded goes into the young one, what
// is found only in the old one counts too, and when the young one is full it becomes the old one. So at least half of
// the capacity is remembered, without a list of what was used when, and the garbage collector sees no pointers.
//
// Blocks name sets of endpoints by number: neighbours in a prompt mostly have the same holders, and then the walk
// along the prompt costs one comparison a block. Not safe for concurrent use.
type index struct {
	young, old *generation
	limit      int
	words      int
	// Scratch of match.
	run    []uint64
	depths []int32
}

type generation struct {
	blocks map[uint64]uint32
	// Bits of the endpoints of each set, words of them for each; set 0 is empty.
	sets []uint64
	// Set and endpoint -> the set with that endpoint.
	next map[step]uint32
	last struct {
		step
		to uint32
	}
	// Set of the generation before -> the same set here.
	carried map[uint32]uint32
}

type step struct {
	from     uint32
	endpoint int32
}

func newIndex(endpoints, capacity int) *index {
	words := (endpoints + 63) / 64
	ix := &index{limit: max(1, capacity/2), words: words, run: make([]uint64, words), depths: make([]int32, endpoints)}
	ix.young, ix.old = newGeneration(words), newGeneration(words)
	return ix
}

func newGeneration(words int) *generation {
	return &generation{
		blocks:  make(map[uint64]uint32),
		sets:    make([]uint64, words),
		next:    make(map[step]uint32),
		carried: make(map[uint32]uint32),
	}
}

// match returns how many leading blocks of keys each endpoint holds. The result is valid until the next call.
func (ix *index) match(keys []uint64) []int32 {
	clear(ix.depths)
	var lastIn *generation
	var lastSet uint32
	for block, key := range keys {
		in, set := ix.find(key)
		if set == 0 {
			ix.settle(int32(block))
			return ix.depths
		}
		if in == lastIn && set == lastSet {
			continue
		}
		lastIn, lastSet = in, set
		holders := in.sets[int(set)*ix.words : int(set+1)*ix.words]
		if block == 0 {
			copy(ix.run, holders)
		} else if !ix.narrow(holders, int32(block)) {
			return ix.depths
		}
	}
	if len(keys) > 0 {
		ix.settle(int32(len(keys)))
	}
	return ix.depths
}

func (ix *index) find(key uint64) (*generation, uint32) {
	if set, ok := ix.young.blocks[key]; ok {
		return ix.young, set
	}
	return ix.old, ix.old.blocks[key]
}

// narrow takes those out of the run that are not among the holders; false when nobody is left.
func (ix *index) narrow(holders []uint64, depth int32) bool {
	var any uint64
	for w, held := range holders {
		gone := ix.run[w] &^ held
		ix.run[w] &= held
		any |= ix.run[w]
		for ; gone != 0; gone &= gone - 1 {
			ix.depths[w*64+bits.TrailingZeros64(gone)] = depth
		}
	}
	return any != 0
}

// settle gives everybody left in the run their depth.
func (ix *index) settle(depth int32) {
	if depth == 0 {
		return
	}
	for w, left := range ix.run {
		for ; left != 0; left &= left - 1 {
			ix.depths[w*64+bits.TrailingZeros64(left)] = depth
		}
	}
}

// record notes that an endpoint is about to hold all of keys.
func (ix *index) record(endpoint int, keys []uint64) {
	for _, key := range keys {
		set, ok := ix.young.blocks[key]
		if !ok {
			if held := ix.old.blocks[key]; held != 0 {
				set = ix.carry(held)
			}
		}
		if next := ix.with(set, endpoint); next != set || !ok {
			ix.young.blocks[key] = next
		}
	}
	if len(ix.young.blocks) >= ix.limit {
		ix.old, ix.young = ix.young, newGeneration(ix.words)
	}
}

// carry finds or makes a set of the old generation in the young one.
func (ix *index) carry(old uint32) uint32 {
	young := ix.young
	set, ok := young.carried[old]
	if !ok {
		set = ix.add(ix.old.sets[int(old)*ix.words : int(old+1)*ix.words])
		young.carried[old] = set
	}
	return set
}

// with finds or makes the set with one more endpoint.
func (ix *index) with(set uint32, endpoint int) uint32 {
	young := ix.young
	word, bit := int(set)*ix.words+endpoint/64, uint64(1)<<(endpoint%64)
	if young.sets[word]&bit != 0 {
		return set
	}
	s := step{set, int32(endpoint)}
	if young.last.step == s && young.last.to != 0 {
		return young.last.to
	}
	to, ok := young.next[s]
	if !ok {
		to = ix.add(young.sets[int(set)*ix.words : int(set+1)*ix.words])
		young.sets[int(to)*ix.words+endpoint/64] |= bit
		young.next[s] = to
	}
	young.last.step, young.last.to = s, to
	return to
}

// add appends a copy of a set to the young generation.
func (ix *index) add(set []uint64) uint32 {
	young := ix.young
	number := len(young.sets) / ix.words
	young.sets = append(young.sets, set...)
	return uint32(number)
}
