package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	types "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	destinationHeader = "x-gateway-destination-endpoint"
	requestIDHeader   = "x-request-id"
	// chunkBytes leaves room for framing in the 64 KiB that Envoy advises.
	chunkBytes = 62000
)

// server is an endpoint picker for FULL_DUPLEX_STREAMED bodies: the reply to the headers is held until the body is
// complete and the endpoint known, then the body goes back as it came.
type server struct {
	extproc.UnimplementedExternalProcessorServer
	picker       *picker
	echo         bool
	blockBytes   int
	maxBodyBytes int
	endpoints    []target
	removed      []string
	scratch      sync.Pool
}

// target is an endpoint, with the parts of a reply that depend on nothing else.
type target struct {
	header   *core.HeaderValueOption
	metadata *structpb.Struct
}

// scratch is what one request needs between its first and its last body byte.
type scratch struct {
	request completion
	message extproc.ProcessingRequest
	hasher  hasher
	keys    []uint64
	text    []byte
	body    []byte
}

var (
	responseHeadersReply = &extproc.ProcessingResponse{
		Response: &extproc.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extproc.HeadersResponse{
			Response: &extproc.CommonResponse{HeaderMutation: &extproc.HeaderMutation{}},
		}},
	}
	responseTrailersReply = &extproc.ProcessingResponse{
		Response: &extproc.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extproc.TrailersResponse{}},
	}
)

func newServer(addresses []string, p *picker, c config) *server {
	s := &server{picker: p, echo: c.Echo, blockBytes: c.BlockBytes, maxBodyBytes: c.MaxBodyBytes, removed: c.RemovedHeaders}
	for _, address := range addresses {
		inner := structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{destinationHeader: structpb.NewStringValue(address)},
		})
		s.endpoints = append(s.endpoints, target{
			header:   set(destinationHeader, address),
			metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"envoy.lb": inner}},
		})
	}
	s.scratch.New = func() any { return &scratch{hasher: hasher{blockBytes: c.BlockBytes}} }
	return s
}

// Process serves one HTTP request.
func (s *server) Process(stream extproc.ExternalProcessor_ProcessServer) error {
	message := new(extproc.ProcessingRequest)
	if err := stream.RecvMsg(message); err != nil {
		return ended(err)
	}
	headers := message.GetRequestHeaders()
	if headers == nil {
		return status.Error(codes.InvalidArgument, "request headers were expected")
	}
	h := readHead(headers.GetHeaders())
	if refused := h.check(); refused != 0 {
		return stream.Send(immediate(refused))
	}
	w, err := s.request(stream, h.requestID)
	if w != nil {
		defer w.done()
	}
	if err != nil {
		return ended(err)
	}
	return ended(answer(stream, message, w))
}

// request takes the body, and sends headers and body back. The work is nil where none was started.
func (s *server) request(stream extproc.ExternalProcessor_ProcessServer, requestID string) (*work, error) {
	at := s.scratch.Get().(*scratch)
	defer s.scratch.Put(at)
	body, err := s.receive(stream, at)
	if err != nil {
		return nil, err
	}
	endpoint := 0
	var w *work
	if !s.echo {
		if err := at.request.decode(body); err != nil {
			return nil, errors.Join(stream.Send(immediate(400)), io.EOF)
		}
		var text []byte
		text, at.text = at.request.prompt(at.text)
		at.keys = at.hasher.keys(at.keys[:0], text, at.request.Model)
		if w = s.picker.pick(at.keys, len(text), at.request.outputTokens()); w == nil {
			return nil, errors.Join(stream.Send(immediate(429)), io.EOF)
		}
		endpoint = w.endpoint
	}
	if err := stream.Send(s.destination(endpoint, requestID)); err != nil {
		return w, err
	}
	return w, sendBody(stream, body)
}

// receive collects the body. One that came in one message is not copied.
func (s *server) receive(stream extproc.ExternalProcessor_ProcessServer, at *scratch) ([]byte, error) {
	at.body = at.body[:0]
	for {
		if err := stream.RecvMsg(&at.message); err != nil {
			return nil, err
		}
		part := at.message.GetRequestBody()
		if part == nil {
			return nil, status.Error(codes.InvalidArgument, "a request body was expected")
		}
		if part.GetEndOfStream() && len(at.body) == 0 {
			return part.GetBody(), nil
		}
		if at.body = append(at.body, part.GetBody()...); len(at.body) > s.maxBodyBytes {
			return nil, status.Error(codes.ResourceExhausted, "the request body is too large")
		}
		if part.GetEndOfStream() {
			return at.body, nil
		}
	}
}

// answer follows the HTTP answer: its headers, its trailers where it has some, the end.
func answer(stream extproc.ExternalProcessor_ProcessServer, message *extproc.ProcessingRequest, w *work) error {
	for {
		if err := stream.RecvMsg(message); err != nil {
			return err
		}
		var err error
		switch message.GetRequest().(type) {
		case *extproc.ProcessingRequest_ResponseHeaders:
			if w != nil {
				w.prefillDone()
			}
			err = stream.Send(responseHeadersReply)
		case *extproc.ProcessingRequest_ResponseTrailers:
			err = stream.Send(responseTrailersReply)
		case *extproc.ProcessingRequest_RequestBody:
			// Envoy 1.35 to 1.37 repeats the final chunk (envoyproxy/envoy#46237).
		default:
			return status.Error(codes.InvalidArgument, "message out of order")
		}
		if err != nil {
			return err
		}
	}
}

func (s *server) destination(endpoint int, requestID string) *extproc.ProcessingResponse {
	to := &s.endpoints[endpoint]
	return &extproc.ProcessingResponse{
		Response: &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: &extproc.HeadersResponse{
			Response: &extproc.CommonResponse{HeaderMutation: &extproc.HeaderMutation{
				SetHeaders:    []*core.HeaderValueOption{to.header, set(requestIDHeader, uniqueID(requestID))},
				RemoveHeaders: s.removed,
			}},
		}},
		DynamicMetadata: to.metadata,
	}
}

func sendBody(stream extproc.ExternalProcessor_ProcessServer, body []byte) error {
	for {
		chunk := body[:min(len(body), chunkBytes)]
		body = body[len(chunk):]
		streamed := &extproc.StreamedBodyResponse{Body: chunk, EndOfStream: len(body) == 0}
		err := stream.Send(&extproc.ProcessingResponse{
			Response: &extproc.ProcessingResponse_RequestBody{RequestBody: &extproc.BodyResponse{
				Response: &extproc.CommonResponse{BodyMutation: &extproc.BodyMutation{
					Mutation: &extproc.BodyMutation_StreamedResponse{StreamedResponse: streamed},
				}},
			}},
		})
		if err != nil || len(body) == 0 {
			return err
		}
	}
}

func immediate(code int32) *extproc.ProcessingResponse {
	return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: &extproc.ImmediateResponse{Status: &types.HttpStatus{Code: types.StatusCode(code)}},
	}}
}

func set(name, value string) *core.HeaderValueOption {
	return &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// uniqueID makes the caller's id unique: engines key transfers by it, and two callers may share one.
func uniqueID(given string) string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	out := make([]byte, 0, 97)
	for i := 0; i < len(given) && len(out) < 64; i++ {
		if c := given[i]; c == '-' || c == '.' || c == '_' || '0' <= c && c <= '9' || 'a' <= c|32 && c|32 <= 'z' {
			out = append(out, c)
		}
	}
	if len(out) > 0 {
		out = append(out, '-')
	}
	return string(hex.AppendEncode(out, id[:]))
}

// ended turns the two ordinary ends of a stream, a half-close and a reset, into success.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}
