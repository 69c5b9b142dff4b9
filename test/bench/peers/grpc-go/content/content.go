// Package content makes what the benchmark of the ext_proc engine runs on: request bodies, and what the prefix index
// holds before the first of them. Both servers and the load generator make it from the same few numbers; the rules
// stand in test/bench/extproc/content.ts, which makes the same bytes.
package content

import "strconv"

// Model is the model of every request.
const Model = "bench"

// BlockBytes is the size of an index block.
const BlockBytes = 256

const (
	lineBytes = 64
	lines     = 4096
	systems   = 16
	hot       = 4
	bodyHead  = `{"model":"` + Model + `","messages":`
	bodyTail  = `],"max_tokens":128,"stream":false}`
)

// Spec is what everything is made from.
type Spec struct {
	Seed uint32
	// Endpoints is at least 6.
	Endpoints int
	// Blocks of conversations in the index, about.
	Blocks int
	// BodyBytes of each request, exactly; at least 1024.
	BodyBytes int
}

// Content makes bodies and conversations. It is read-only, and safe for concurrent use.
type Content struct {
	Spec
	corpus        []byte
	turnBytes     int
	turns         int
	conversations uint32
}

// New makes the corpus that all text is cut from.
func New(spec Spec) *Content {
	c := &Content{Spec: spec, corpus: corpus(spec.Seed), turnBytes: 256}
	if spec.BodyBytes >= 4096 {
		c.turnBytes = 1024
	}
	c.turns = max(2, spec.BodyBytes*3/4/c.turnBytes)
	own := (c.turns*(c.turnBytes+1))/BlockBytes - c.turnBytes/BlockBytes
	c.conversations = uint32(max(1, spec.Blocks/own))
	return c
}

// Conversations is how many the index holds.
func (c *Content) Conversations() uint32 { return c.conversations }

// Conversation is the one that a request goes on with: for every fourth request one of a few that everybody talks in.
func (c *Content) Conversation(request uint32) uint32 {
	choice := mix(c.Seed + request)
	if choice>>30 == 0 {
		return choice % min(hot, c.conversations)
	}
	return choice % c.conversations
}

// Holders appends the endpoints that hold a conversation.
func (c *Content) Holders(dst []int, conversation uint32) []int {
	count := 1
	switch {
	case conversation%64 == 0:
		count = 6
	case conversation%8 == 0:
		count = 2
	}
	first := int(mix(conversation^c.Seed) % uint32(c.Endpoints))
	for k := range count {
		dst = append(dst, (first+k)%c.Endpoints)
	}
	return dst
}

// Prefix appends the start of a prompt: the opening bracket and the turns that the index holds.
func (c *Content) Prefix(dst []byte, conversation uint32) []byte {
	dst = append(dst, '[')
	for turn := range c.turns {
		if turn > 0 {
			dst = append(dst, ',')
		}
		switch {
		case turn == 0:
			dst = c.message(dst, "system", conversation%systems, 0, c.turnBytes)
		case turn%2 == 1:
			dst = c.message(dst, "user", conversation, turn, c.turnBytes)
		default:
			dst = c.message(dst, "assistant", conversation, turn, c.turnBytes)
		}
	}
	return dst
}

// Body appends the body of a request: a conversation that the index holds, and one turn that nobody has seen.
func (c *Content) Body(dst []byte, request uint32) []byte {
	start := len(dst)
	dst = append(dst, bodyHead...)
	dst = c.Prefix(dst, c.Conversation(request))
	dst = append(dst, ',')
	left := c.BodyBytes - (len(dst) - start) - len(bodyTail)
	dst = c.message(dst, "user", request, c.turns, left)
	return append(dst, bodyTail...)
}

// Address of an endpoint.
func Address(endpoint int) string {
	return "10.64." + strconv.Itoa(endpoint>>8) + "." + strconv.Itoa(endpoint&255) + ":8000"
}

// message appends one of exactly size bytes: a number of ten digits, whole lines of the corpus, filling.
func (c *Content) message(dst []byte, role string, number uint32, turn, size int) []byte {
	start := len(dst)
	dst = append(dst, `{"role":"`...)
	dst = append(dst, role...)
	dst = append(dst, `","content":"`...)
	for scale := uint32(1_000_000_000); scale > 0; scale /= 10 {
		dst = append(dst, '0'+byte(number/scale%10))
	}
	dst = append(dst, ' ')
	room := size - (len(dst) - start) - len(`"}`)
	line := int(mix(number^c.Seed)%lines) + turn*16
	for left := room / lineBytes; left > 0; {
		at := line % lines
		count := min(left, lines-at)
		dst = append(dst, c.corpus[at*lineBytes:(at+count)*lineBytes]...)
		line += count
		left -= count
	}
	for range room % lineBytes {
		dst = append(dst, 'x')
	}
	return append(dst, `"}`...)
}

// corpus is lines of letters and spaces, each ending in an escaped line feed; every eighth has an escaped quote too.
func corpus(seed uint32) []byte {
	state := seed*2654435761 | 1
	text := make([]byte, lines*lineBytes)
	for at := range text {
		// Marsaglia, Xorshift RNGs, Journal of Statistical Software 8 (2003), triple 13, 17, 5.
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		text[at] = ' '
		if letter := byte(state >> 8 & 31); letter < 26 {
			text[at] = 'a' + letter
		}
	}
	for line := range lines {
		end := (line + 1) * lineBytes
		copy(text[end-2:], `\n`)
		if line%8 == 7 {
			copy(text[end-4:], `\"`)
		}
	}
	return text
}

// mix is the finalizer of MurmurHash3: neighbours in, strangers out.
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}
