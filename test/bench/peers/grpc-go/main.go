// The peer of the ext_proc benchmark: an endpoint picker on grpc-go that does the same work as Tandem's router over the
// same endpoints and index, in the way of an experienced Go programmer. Its picks equal Tandem's, which the benchmark
// proves before it measures anything.
//
// Configured by one JSON object, its only argument; prints {"address":"..."} once it serves. From SIGUSR2 on, prefill
// work expires with time; before, picks depend on the order of requests alone.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"tandem.sh/test/bench/peers/grpc-go/content"
)

type config struct {
	Seed           uint32   `json:"seed"`
	Endpoints      int      `json:"endpoints"`
	Blocks         int      `json:"blocks"`
	BodyBytes      int      `json:"bodyBytes"`
	Echo           bool     `json:"echo"`
	CapacityBlocks int      `json:"capacityBlocks"`
	BlockBytes     int      `json:"blockBytes"`
	BytesPerToken  int      `json:"bytesPerToken"`
	MaxInflight    int      `json:"maxInflight"`
	MaxStreams     uint32   `json:"maxStreams"`
	MaxBodyBytes   int      `json:"maxBodyBytes"`
	Costs          costs    `json:"costs"`
	RemovedHeaders []string `json:"removedHeaders"`
}

const mib = 1 << 20

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: grpc-go CONFIG (a JSON object)")
	}
	var c config
	if err := json.Unmarshal([]byte(os.Args[1]), &c); err != nil {
		log.Fatal(err)
	}
	if err := serve(c); err != nil {
		log.Fatal(err)
	}
}

func serve(c config) error {
	// Streams allocate little that lives: collecting less often costs memory that the machine has.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	p := newPicker(c.Endpoints, c.CapacityBlocks*c.Endpoints, c)
	if !c.Echo {
		fill(p, c)
	}
	addresses := make([]string, c.Endpoints)
	for endpoint := range addresses {
		addresses[endpoint] = content.Address(endpoint)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// The windows that Tandem's server has; workers spare each stream the growth of a new stack.
	server := grpc.NewServer(
		grpc.MaxConcurrentStreams(c.MaxStreams),
		grpc.MaxRecvMsgSize(c.MaxBodyBytes+mib),
		grpc.InitialWindowSize(mib),
		grpc.InitialConnWindowSize(16*mib),
		grpc.ReadBufferSize(64*1024),
		grpc.WriteBufferSize(64*1024),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))*64),
	)
	extproc.RegisterExternalProcessorServer(server, newServer(addresses, p, c))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGUSR2)
	go func() {
		for next := range signals {
			if next != syscall.SIGUSR2 {
				server.Stop()
				return
			}
			p.expireFromNow()
		}
	}()
	fmt.Printf("{\"address\":%q}\n", listener.Addr().String())
	return server.Serve(listener)
}

// fill puts all conversations into the index, as if they had been served.
func fill(p *picker, c config) {
	made := content.New(content.Spec{Seed: c.Seed, Endpoints: c.Endpoints, Blocks: c.Blocks, BodyBytes: c.BodyBytes})
	h := hasher{blockBytes: c.BlockBytes}
	var text []byte
	var keys []uint64
	var holders []int
	for conversation := range made.Conversations() {
		text = made.Prefix(text[:0], conversation)
		keys = h.keys(keys[:0], text, content.Model)
		holders = made.Holders(holders[:0], conversation)
		for _, endpoint := range holders {
			p.index.record(endpoint, keys)
		}
	}
}
