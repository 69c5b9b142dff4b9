package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Windows that Envoy gives: 16 MiB a stream, 24 MiB a connection.
const (
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
	maxFrame         = 16 * 1024
)

// connection speaks HTTP/2 as Envoy's client does: HPACK with its dynamic table, flow control both ways, one write for
// all that a read gave rise to.
type connection struct {
	load *load
	net  net.Conn
	in   *bufio.Reader

	mu      sync.Mutex
	out     *bufio.Writer
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	streams map[uint32]*stream
	nextID  uint32
	window  int64
	initial int64
	blocked []*stream
	unacked uint32
	body    []byte
	pool    []*stream
}

// stream is one HTTP request on its way.
type stream struct {
	id       uint32
	request  uint32
	intended time.Time
	window   int64
	waiting  bool
	// What is to be sent, and how far it is.
	pending []byte
	sent    int
	end     bool
	// What came and is not a whole message.
	received []byte
	headers  bool
	echoed   int
	// Answers of HTTP/1 engines have no trailers: Envoy then resets the stream.
	trailers bool
	held     *held
}

// held is the state of a stream that waits for a word before its answer begins; only where picks are verified.
type held struct {
	body        []byte
	destination string
	answered    chan error
	closed      chan error
}

func dial(l *load, address string) (*connection, error) {
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{
		load: l, net: raw, in: bufio.NewReaderSize(raw, 256*1024), out: bufio.NewWriterSize(raw, 256*1024),
		streams: make(map[uint32]*stream), nextID: 1, window: 65535, initial: 65535,
	}
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(c.out, c.in)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetReuseFrames()
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	settings := []http2.Setting{
		{ID: http2.SettingEnablePush, Val: 0},
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
	}
	if err := c.framer.WriteSettings(settings...); err != nil {
		return nil, err
	}
	if err := c.framer.WriteWindowUpdate(0, connectionWindow-65535); err != nil {
		return nil, err
	}
	return c, c.out.Flush()
}

// open starts a stream. The caller holds the lock and flushes.
func (c *connection) open(request uint32, intended time.Time, h *held) error {
	s := &stream{}
	if last := len(c.pool) - 1; last >= 0 {
		s, c.pool = c.pool[last], c.pool[:last]
	}
	*s = stream{pending: s.pending[:0], received: s.received[:0]}
	s.id, s.request, s.intended, s.held = c.nextID, request, intended, h
	s.window, s.trailers = c.initial, h != nil || request%2 == 0
	c.nextID += 2
	c.streams[s.id] = s
	if err := c.writeHeaders(s.id); err != nil {
		return err
	}
	c.body = c.load.content.Body(c.body[:0], request)
	if h != nil {
		h.body = bytes.Clone(c.body)
	}
	s.pending = c.load.messages.appendRequest(s.pending, request)
	s.pending = appendBody(s.pending, c.body)
	return c.send(s)
}

func (c *connection) writeHeaders(id uint32) error {
	c.block.Reset()
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/envoy.service.ext_proc.v3.ExternalProcessor/Process"},
		{Name: ":authority", Value: "ext-proc"},
		{Name: "te", Value: "trailers"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "x-envoy-internal", Value: "true"},
		{Name: "x-forwarded-for", Value: "10.1.0.7"},
	} {
		if err := c.encoder.WriteField(field); err != nil {
			return err
		}
	}
	return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true})
}

// send writes what the windows allow; the rest follows with the next window update.
func (c *connection) send(s *stream) error {
	for s.sent < len(s.pending) {
		count := min(int64(len(s.pending)-s.sent), maxFrame, c.window, s.window)
		if count <= 0 {
			if !s.waiting {
				s.waiting = true
				c.blocked = append(c.blocked, s)
			}
			return nil
		}
		if err := c.framer.WriteData(s.id, false, s.pending[s.sent:s.sent+int(count)]); err != nil {
			return err
		}
		s.sent += int(count)
		s.window -= count
		c.window -= count
	}
	s.pending, s.sent = s.pending[:0], 0
	if s.end {
		s.end = false
		return c.framer.WriteData(s.id, true, nil)
	}
	return nil
}

func (c *connection) resume() error {
	blocked := c.blocked
	c.blocked = nil
	for _, s := range blocked {
		s.waiting = false
		if c.streams[s.id] != s {
			continue
		}
		if err := c.send(s); err != nil {
			return err
		}
	}
	return nil
}

// read serves the connection until it ends.
func (c *connection) read() error {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		c.mu.Lock()
		err = c.take(frame)
		// One write for all frames of one read.
		if err == nil && c.in.Buffered() == 0 {
			err = c.out.Flush()
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (c *connection) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.MetaHeadersFrame:
		return c.takeHeaders(f)
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if s := c.streams[f.StreamID]; s != nil {
			s.window += int64(f.Increment)
		}
		return c.resume()
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.framer.WritePing(true, f.Data)
	case *http2.RSTStreamFrame:
		if s := c.streams[f.StreamID]; s != nil {
			return fmt.Errorf("the server reset request %d: %v", s.request, f.ErrCode)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server goes away: %v %s", f.ErrCode, f.DebugData())
	}
	return nil
}

func (c *connection) takeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if value, ok := f.Value(http2.SettingInitialWindowSize); ok {
		change := int64(value) - c.initial
		c.initial = int64(value)
		for _, s := range c.streams {
			s.window += change
		}
	}
	if value, ok := f.Value(http2.SettingHeaderTableSize); ok {
		c.encoder.SetMaxDynamicTableSizeLimit(value)
	}
	if err := c.framer.WriteSettingsAck(); err != nil {
		return err
	}
	return c.resume()
}

func (c *connection) takeHeaders(f *http2.MetaHeadersFrame) error {
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	for _, field := range f.RegularFields() {
		if field.Name == "grpc-status" && field.Value != "0" {
			return fmt.Errorf("request %d ended with gRPC status %s", s.request, field.Value)
		}
	}
	if f.StreamEnded() {
		return c.close(s)
	}
	return nil
}

func (c *connection) takeData(f *http2.DataFrame) error {
	c.unacked += f.Length
	if c.unacked > connectionWindow/4 {
		if err := c.framer.WriteWindowUpdate(0, c.unacked); err != nil {
			return err
		}
		c.unacked = 0
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	s.received = append(s.received, f.Data()...)
	done := 0
	for len(s.received)-done >= prefixBytes {
		size := prefixBytes + int(binary.BigEndian.Uint32(s.received[done+1:]))
		if len(s.received)-done < size {
			break
		}
		if err := c.takeMessage(s, s.received[done+prefixBytes:done+size]); err != nil {
			return err
		}
		if c.streams[f.StreamID] != s {
			// It ended with this message, and may be another one by now.
			return nil
		}
		done += size
	}
	s.received = s.received[:copy(s.received, s.received[done:])]
	if f.StreamEnded() {
		return c.close(s)
	}
	return nil
}

func (c *connection) takeMessage(s *stream, message []byte) error {
	r, err := readReply(message)
	if err != nil {
		return err
	}
	switch r.field {
	case requestHeadersField:
		s.headers = true
		if s.held != nil {
			s.held.destination, err = destination(message)
		}
		return err
	case requestBodyField:
		return c.takeChunk(s, r)
	case responseHeadersField:
		return c.finishAnswer(s)
	case responseTrailersField:
		s.end = true
		return c.send(s)
	}
	return fmt.Errorf("request %d was answered by field %d", s.request, r.field)
}

func (c *connection) takeChunk(s *stream, r reply) error {
	if !s.headers {
		return fmt.Errorf("request %d: body before headers", s.request)
	}
	if s.held != nil && !bytes.HasPrefix(s.held.body[min(s.echoed, len(s.held.body)):], r.chunk) {
		return fmt.Errorf("request %d: the body that came back is another", s.request)
	}
	s.echoed += len(r.chunk)
	if !r.endOfStream {
		return nil
	}
	if s.echoed != c.load.content.BodyBytes {
		return fmt.Errorf("request %d: %d bytes of body came back", s.request, s.echoed)
	}
	if s.held != nil {
		s.held.answered <- nil
		return nil
	}
	c.load.note(time.Since(s.intended), s.intended)
	return c.answer(s)
}

// answer tells that the engine began to answer.
func (c *connection) answer(s *stream) error {
	s.pending = append(s.pending, c.load.messages.responseHeaders...)
	return c.send(s)
}

func (c *connection) finishAnswer(s *stream) error {
	if s.trailers {
		s.pending = append(s.pending, c.load.messages.responseTrailers...)
		return c.send(s)
	}
	if err := c.framer.WriteData(s.id, true, nil); err != nil {
		return err
	}
	if err := c.framer.WriteRSTStream(s.id, http2.ErrCodeNo); err != nil {
		return err
	}
	return c.close(s)
}

// close ends a stream that has run its course. In a closed loop the next one begins.
func (c *connection) close(s *stream) error {
	delete(c.streams, s.id)
	if s.held != nil {
		s.held.closed <- nil
		return nil
	}
	if s.echoed != c.load.content.BodyBytes {
		return fmt.Errorf("request %d ended before it was answered", s.request)
	}
	if !s.waiting {
		c.pool = append(c.pool, s)
	}
	if next, ok := c.load.finished(); ok {
		return c.open(next, time.Now(), nil)
	}
	return nil
}

func (c *connection) locked(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	return c.out.Flush()
}

func (c *connection) serve(failed func(error)) {
	if err := c.read(); err != nil && err != io.EOF {
		failed(err)
	}
}
