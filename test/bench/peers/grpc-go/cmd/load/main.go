// Load for an ext_proc server, as Envoy makes it: one stream for each HTTP request, FULL_DUPLEX_STREAMED bodies,
// response headers and trailers. Closed loop (-streams open on each connection) or, with -rate, open loop: latencies
// count from the moment at which a request was to be sent, whether or not the one before was answered.
//
// Half of the answers have no trailers; their streams end as Envoy ends them, by a reset. Prints one JSON object.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"log"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"tandem.sh/test/bench/peers/grpc-go/content"
)

const drainTime = 30 * time.Second

type load struct {
	content  *content.Content
	messages *messages
	closed   bool
	next     atomic.Uint32
	stopped  atomic.Bool

	mu        sync.Mutex
	from, to  time.Time
	latencies []time.Duration
	done      atomic.Int64
	open      atomic.Int64
}

// result is what one run prints.
type result struct {
	Streams            int64   `json:"streams"`
	Seconds            float64 `json:"seconds"`
	CPUMicrosPerStream float64 `json:"cpuMicrosPerStream"`
	P50Ms              float64 `json:"p50Ms"`
	P90Ms              float64 `json:"p90Ms"`
	P99Ms              float64 `json:"p99Ms"`
	RSSMiB             float64 `json:"rssMiB"`
	// Next is the number of the first request that was not sent.
	Next uint32 `json:"next"`
}

// verified is what -verify prints.
type verified struct {
	Checksum string `json:"checksum"`
	// HolderShare of the requests went where their conversation was.
	HolderShare float64 `json:"holderShare"`
	Endpoints   int     `json:"endpoints"`
	Next        uint32  `json:"next"`
}

var (
	target      = flag.String("target", "", "address of the server")
	pid         = flag.Int("pid", 0, "process of the server, whose CPU time and memory are read")
	connections = flag.Int("connections", 4, "connections")
	streams     = flag.Int("streams", 32, "streams open on each connection, in a closed loop")
	rate        = flag.Float64("rate", 0, "streams a second, in an open loop")
	warmup      = flag.Duration("warmup", 500*time.Millisecond, "time before anything counts")
	duration    = flag.Duration("duration", 2*time.Second, "time that counts")
	seed        = flag.Uint("seed", 1, "seed of the content")
	endpoints   = flag.Int("endpoints", 100, "endpoints of the content")
	blocks      = flag.Int("blocks", 1_000_000, "blocks of the content")
	bodyBytes   = flag.Int("body-bytes", 16384, "bytes of each body")
	first       = flag.Uint("first", 0, "number of the first request")
	count       = flag.Int64("count", 0, "send so many requests in a closed loop, and measure nothing")
	verify      = flag.Int("verify", 0, "send so many requests in order, and print a checksum of where they went")
	window      = flag.Int("window", 256, "requests under way while verifying")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	l := &load{closed: *rate == 0 && *verify == 0}
	l.content = content.New(content.Spec{
		Seed: uint32(*seed), Endpoints: *endpoints, Blocks: *blocks, BodyBytes: *bodyBytes,
	})
	l.next.Store(uint32(*first))
	var err error
	if l.messages, err = newMessages(*bodyBytes); err != nil {
		return err
	}
	if *verify > 0 {
		out, err := l.verify()
		return printed(out, err)
	}
	out, err := l.measure()
	return printed(out, err)
}

func printed(value any, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(value)
}

func failed(err error) {
	log.Fatal(err)
}

func (l *load) dialAll(count int) ([]*connection, error) {
	all := make([]*connection, count)
	for i := range all {
		c, err := dial(l, *target)
		if err != nil {
			return nil, err
		}
		all[i] = c
		go c.serve(failed)
	}
	return all, nil
}

func (l *load) measure() (result, error) {
	all, err := l.dialAll(*connections)
	if err != nil {
		return result{}, err
	}
	if *count > 0 {
		return l.warm(all)
	}
	begin := time.Now()
	l.from, l.to = begin.Add(*warmup), begin.Add(*warmup+*duration)
	if *rate > 0 {
		go l.pace(all, begin)
	} else if err := l.fillUp(all); err != nil {
		return result{}, err
	}
	time.Sleep(time.Until(l.from))
	from, err := usageOf(*pid)
	if err != nil {
		return result{}, err
	}
	done := l.done.Load()
	time.Sleep(time.Until(l.to))
	l.stopped.Store(true)
	// What began within the time counts whole, however late it ended.
	l.drain()
	to, err := usageOf(*pid)
	if err != nil {
		return result{}, err
	}
	done = l.done.Load() - done
	out := l.quantiles()
	out.Streams, out.Seconds, out.RSSMiB = done, duration.Seconds(), to.rssMiB
	out.CPUMicrosPerStream = (to.cpuMicros - from.cpuMicros) / float64(max(1, done))
	out.Next = l.next.Load()
	return out, nil
}

// warm sends requests until enough of them were answered: compilers and caches of the server have seen the work then.
func (l *load) warm(all []*connection) (result, error) {
	if err := l.fillUp(all); err != nil {
		return result{}, err
	}
	for l.done.Load() < *count {
		time.Sleep(time.Millisecond)
	}
	l.stopped.Store(true)
	l.drain()
	return result{Streams: l.done.Load(), Next: l.next.Load()}, nil
}

func (l *load) fillUp(all []*connection) error {
	for range *streams {
		for _, c := range all {
			l.open.Add(1)
			if err := c.locked(func() error { return c.open(l.next.Add(1)-1, time.Now(), nil) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// pace opens streams at even distances. A blocking sleep in the kernel: Go's own timers are rounded up to 1 ms.
func (l *load) pace(all []*connection, begin time.Time) {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for i := 0; !l.stopped.Load(); i++ {
		intended := begin.Add(time.Duration(float64(i) / *rate * float64(time.Second)))
		if wait := time.Until(intended); wait > 0 {
			sleep := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&sleep, nil)
		}
		c := all[i%len(all)]
		l.open.Add(1)
		if err := c.locked(func() error { return c.open(l.next.Add(1)-1, intended, nil) }); err != nil {
			failed(err)
		}
	}
}

// drain waits for what is under way: what is late by drainTime fails the run.
func (l *load) drain() {
	for deadline := time.Now().Add(drainTime); l.open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			failed(fmt.Errorf("%d streams were not answered within %v", l.open.Load(), drainTime))
		}
	}
}

// note takes a latency of the time that counts.
func (l *load) note(latency time.Duration, intended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !intended.Before(l.from) && intended.Before(l.to) {
		l.latencies = append(l.latencies, latency)
	}
}

// finished tells of the end of a stream; the number of the next one, where one is to follow.
func (l *load) finished() (uint32, bool) {
	l.done.Add(1)
	if !l.closed || l.stopped.Load() {
		l.open.Add(-1)
		return 0, false
	}
	return l.next.Add(1) - 1, true
}

func (l *load) quantiles() result {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latencies)
	at := func(share float64) float64 {
		if len(l.latencies) == 0 {
			return 0
		}
		return l.latencies[min(len(l.latencies)-1, int(share*float64(len(l.latencies))))].Seconds() * 1000
	}
	return result{P50Ms: at(0.5), P90Ms: at(0.9), P99Ms: at(0.99)}
}

// verify sends requests one after the other, of which the last ones are still under way, and sums up where they went.
func (l *load) verify() (verified, error) {
	all, err := l.dialAll(1)
	if err != nil {
		return verified{}, err
	}
	c, sum, held, used := all[0], fnv.New64a(), 0, make(map[string]bool)
	under := make([]*stream, 0, *verify)
	for i := range *verify {
		s, err := l.ask(c)
		if err != nil {
			return verified{}, err
		}
		under = append(under, s)
		used[s.held.destination] = true
		_, _ = sum.Write([]byte(s.held.destination + "\n"))
		for _, holder := range l.content.Holders(nil, l.content.Conversation(s.request)) {
			if content.Address(holder) == s.held.destination {
				held++
			}
		}
		if i >= *window {
			if err := l.end(c, under[i-*window]); err != nil {
				return verified{}, err
			}
		}
	}
	for _, s := range under[max(0, len(under)-*window):] {
		if err := l.end(c, s); err != nil {
			return verified{}, err
		}
	}
	share := float64(held) / float64(*verify)
	return verified{fmt.Sprintf("%016x", sum.Sum64()), share, len(used), l.next.Load()}, nil
}

func (l *load) ask(c *connection) (*stream, error) {
	h := &held{answered: make(chan error, 1), closed: make(chan error, 1)}
	var s *stream
	err := c.locked(func() error {
		err := c.open(l.next.Add(1)-1, time.Now(), h)
		s = c.streams[c.nextID-2]
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, within(h.answered)
}

func (l *load) end(c *connection, s *stream) error {
	if err := c.locked(func() error { return c.answer(s) }); err != nil {
		return err
	}
	return within(s.held.closed)
}

func within(told chan error) error {
	select {
	case err := <-told:
		return err
	case <-time.After(drainTime):
		return fmt.Errorf("no answer within %v", drainTime)
	}
}
