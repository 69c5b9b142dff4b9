package main

import (
	"math"
	"sync"
	"time"
)

// costs are the constants of J, in milliseconds.
type costs struct {
	Mu                       float64 `json:"mu"`
	Beta                     float64 `json:"beta"`
	PrefillMsPerToken        float64 `json:"prefillMsPerToken"`
	PrefillMsPerTokenSquared float64 `json:"prefillMsPerTokenSquared"`
	DecodeStepMs             float64 `json:"decodeStepMs"`
	DecodeTokens             int     `json:"decodeTokens"`
}

// tie is how close two costs are when they count as equal.
const tie = 0.01

// picker gives requests to endpoints: one lock around index and loads, since a pick reads and writes both.
type picker struct {
	costs         costs
	blockBytes    int
	bytesPerToken int
	maxInflight   int

	mu sync.Mutex
	// expire ends prefill work after the time that it was thought to take.
	expire   bool
	index    *index
	loads    []load
	prices   []price
	sequence uint64
}

type load struct {
	prefillMs float64
	prefills  int
	inflight  int
	assigned  uint64
}

type price struct{ own, total float64 }

// work is what a request holds on its endpoint, until it is released.
type work struct {
	picker    *picker
	endpoint  int
	ownMs     float64
	prefilled bool
	ended     bool
	expiry    *time.Timer
}

func newPicker(endpoints, capacity int, c config) *picker {
	return &picker{
		costs: c.Costs, blockBytes: c.BlockBytes, bytesPerToken: c.BytesPerToken, maxInflight: c.MaxInflight,
		index: newIndex(endpoints, capacity), loads: make([]load, endpoints), prices: make([]price, endpoints),
	}
}

func (p *picker) expireFromNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire = true
}

// pick chooses the endpoint with the lowest J, and starts the request there; nil when all are full.
func (p *picker) pick(keys []uint64, promptBytes, maxTokens int) *work {
	if maxTokens == 0 {
		maxTokens = p.costs.DecodeTokens
	}
	tokens := max(1, (promptBytes+p.bytesPerToken-1)/p.bytesPerToken)
	p.mu.Lock()
	defer p.mu.Unlock()
	depths := p.index.match(keys)
	lowest := math.Inf(1)
	for endpoint := range p.loads {
		cached := min(tokens-1, int(depths[endpoint])*p.blockBytes/p.bytesPerToken)
		p.prices[endpoint] = p.price(&p.loads[endpoint], tokens, cached, maxTokens)
		lowest = min(lowest, p.prices[endpoint].total)
	}
	best := p.leastRecent(lowest * (1 + tie))
	if best < 0 {
		return nil
	}
	return p.start(best, keys)
}

// price is J = Q + own * (1 + mu + beta * inflight), and the longer decode steps of everybody there.
func (p *picker) price(l *load, tokens, cached, outputTokens int) price {
	if l.inflight >= p.maxInflight {
		return price{total: math.Inf(1)}
	}
	c := &p.costs
	fresh, held, requests := float64(tokens-cached), float64(cached), float64(l.inflight)
	own := c.PrefillMsPerToken*fresh + 2*c.PrefillMsPerTokenSquared*fresh*(held+fresh/2)
	prefill := l.prefillMs + own*(1+c.Mu+c.Beta*requests)
	return price{own, c.DecodeStepMs*requests*float64(outputTokens) + prefill}
}

// leastRecent is, of the endpoints that cost at most this, the one that waited longest for a request; -1 for none.
func (p *picker) leastRecent(limit float64) int {
	best := -1
	if math.IsInf(limit, 1) {
		return best
	}
	for endpoint := range p.prices {
		if p.prices[endpoint].total <= limit && (best < 0 || p.loads[endpoint].assigned < p.loads[best].assigned) {
			best = endpoint
		}
	}
	return best
}

// start notes the request where it goes. Siblings of a burst then meet where the first one went.
func (p *picker) start(endpoint int, keys []uint64) *work {
	l := &p.loads[endpoint]
	w := &work{picker: p, endpoint: endpoint, ownMs: p.prices[endpoint].own}
	p.sequence++
	l.inflight++
	l.assigned = p.sequence
	l.prefillMs += w.ownMs
	l.prefills++
	p.index.record(endpoint, keys)
	if p.expire {
		w.expiry = time.AfterFunc(time.Duration(l.prefillMs*float64(time.Millisecond)), w.prefillDone)
	}
	return w
}

// prefillDone ends the prefill work. Calling it twice is harmless.
func (w *work) prefillDone() {
	w.picker.mu.Lock()
	defer w.picker.mu.Unlock()
	w.endPrefill()
}

func (w *work) endPrefill() {
	if w.prefilled {
		return
	}
	w.prefilled = true
	if w.expiry != nil {
		w.expiry.Stop()
	}
	l := &w.picker.loads[w.endpoint]
	l.prefills--
	// With the last of it the sum is exactly zero: no rounding stays.
	if l.prefillMs = max(0, l.prefillMs-w.ownMs); l.prefills == 0 {
		l.prefillMs = 0
	}
}

// done ends the request. Calling it twice is harmless.
func (w *work) done() {
	w.picker.mu.Lock()
	defer w.picker.mu.Unlock()
	w.endPrefill()
	if !w.ended {
		w.ended = true
		w.picker.loads[w.endpoint].inflight--
	}
}
