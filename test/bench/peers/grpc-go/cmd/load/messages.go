package main

import (
	"bytes"
	"encoding/binary"
	"fmt"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilter "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	prefixBytes = 5
	// readBytes is what Envoy takes off a connection at once, and so the size of a body message.
	readBytes = 16 * 1024
	idPlace   = "00000000-0000-4000-8000-000000000000"
)

// messages that Envoy sends for each HTTP request, framed for gRPC.
type messages struct {
	requestHeaders   []byte
	idAt             int
	responseHeaders  []byte
	responseTrailers []byte
}

func newMessages(bodyBytes int) (*messages, error) {
	request, err := framed(&extproc.ProcessingRequest{
		Request: &extproc.ProcessingRequest_RequestHeaders{RequestHeaders: &extproc.HttpHeaders{Headers: headers(
			":authority", "inference.example.com", ":path", "/v1/chat/completions", ":method", "POST", ":scheme", "https",
			"user-agent", "OpenAI/Python 2.8.1", "accept", "application/json", "accept-encoding", "gzip, deflate",
			"content-type", "application/json", "content-length", fmt.Sprint(bodyBytes),
			"authorization", "Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef",
			"x-stainless-lang", "python", "x-stainless-runtime", "CPython", "x-forwarded-for", "10.1.2.3",
			"x-forwarded-proto", "https", "x-envoy-external-address", "10.1.2.3", "x-request-id", idPlace,
			"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		)}},
		MetadataContext: &core.Metadata{},
		ProtocolConfig: &extproc.ProtocolConfiguration{
			RequestBodyMode: extprocfilter.ProcessingMode_FULL_DUPLEX_STREAMED,
		},
	})
	if err != nil {
		return nil, err
	}
	response, err := framed(&extproc.ProcessingRequest{
		Request: &extproc.ProcessingRequest_ResponseHeaders{ResponseHeaders: &extproc.HttpHeaders{Headers: headers(
			":status", "200", "date", "Thu, 01 Jan 2026 00:00:00 GMT", "server", "uvicorn", "content-type",
			"application/json", "x-envoy-upstream-service-time", "812",
		)}},
		MetadataContext: &core.Metadata{},
	})
	if err != nil {
		return nil, err
	}
	trailers, err := framed(&extproc.ProcessingRequest{
		Request: &extproc.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extproc.HttpTrailers{
			Trailers: headers("x-usage-tokens", "128"),
		}},
		MetadataContext: &core.Metadata{},
	})
	return &messages{request, bytes.Index(request, []byte(idPlace)), response, trailers}, err
}

func headers(pairs ...string) *core.HeaderMap {
	all := new(core.HeaderMap)
	for i := 0; i < len(pairs); i += 2 {
		all.Headers = append(all.Headers, &core.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return all
}

func framed(message proto.Message) ([]byte, error) {
	out, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, prefixBytes), message)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-prefixBytes))
	return out, err
}

// appendRequest appends the first message of a request; each request has an id of its own.
func (m *messages) appendRequest(dst []byte, request uint32) []byte {
	at := len(dst) + m.idAt
	dst = append(dst, m.requestHeaders...)
	const digits = "0123456789abcdef"
	for i := at + 7; request > 0; i-- {
		dst[i] = digits[request&15]
		request >>= 4
	}
	return dst
}

// appendBody appends a body as the messages that Envoy makes of it, each ProcessingRequest{request_body = 4}.
func appendBody(dst, body []byte) []byte {
	for {
		part := body[:min(len(body), readBytes)]
		body = body[len(part):]
		inner := protowire.SizeTag(1) + protowire.SizeBytes(len(part))
		if len(body) == 0 {
			inner += 2
		}
		size := protowire.SizeTag(4) + protowire.SizeBytes(inner)
		dst = append(dst, 0)
		dst = binary.BigEndian.AppendUint32(dst, uint32(size))
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(inner))
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendBytes(dst, part)
		if len(body) == 0 {
			return append(dst, 2<<3, 1)
		}
	}
}

// reply is what counts of a ProcessingResponse.
type reply struct {
	field protowire.Number
	// Of a reply to the request body.
	chunk       []byte
	endOfStream bool
}

// Numbers of the fields of ProcessingResponse.
const (
	requestHeadersField   = 1
	responseHeadersField  = 2
	requestBodyField      = 3
	responseTrailersField = 6
)

// readReply finds what the message replies to: in which place the oneof stands is the encoder's choice.
func readReply(message []byte) (reply, error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return reply{}, protowire.ParseError(n)
		}
		if number < 8 && kind == protowire.BytesType {
			inner, m := protowire.ConsumeBytes(message[n:])
			if m < 0 {
				return reply{}, protowire.ParseError(m)
			}
			r := reply{field: number}
			if number != requestBodyField {
				return r, nil
			}
			return r, r.readBody(inner)
		}
		m := protowire.ConsumeFieldValue(number, kind, message[n:])
		if m < 0 {
			return reply{}, protowire.ParseError(m)
		}
		message = message[n+m:]
	}
	return reply{}, fmt.Errorf("a reply to nothing")
}

// readBody reads BodyResponse{response = 1{body_mutation = 3{streamed_response = 3}}}.
func (r *reply) readBody(inner []byte) error {
	for _, want := range []protowire.Number{1, 3, 3} {
		number, kind, n := protowire.ConsumeTag(inner)
		if n < 0 || number != want || kind != protowire.BytesType {
			return fmt.Errorf("reply to a body without streamed_response")
		}
		next, m := protowire.ConsumeBytes(inner[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		inner = next
	}
	return r.readChunk(inner)
}

func (r *reply) readChunk(streamed []byte) error {
	for len(streamed) > 0 {
		number, kind, n := protowire.ConsumeTag(streamed)
		if n < 0 {
			return protowire.ParseError(n)
		}
		streamed = streamed[n:]
		switch {
		case number == 1 && kind == protowire.BytesType:
			r.chunk, n = protowire.ConsumeBytes(streamed)
		case number == 2 && kind == protowire.VarintType:
			var value uint64
			value, n = protowire.ConsumeVarint(streamed)
			r.endOfStream = value != 0
		default:
			n = protowire.ConsumeFieldValue(number, kind, streamed)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		streamed = streamed[n:]
	}
	return nil
}

// destination of a reply to request headers: in the header and in the metadata, which must agree.
func destination(message []byte) (string, error) {
	var response extproc.ProcessingResponse
	if err := proto.Unmarshal(message, &response); err != nil {
		return "", err
	}
	const name = "x-gateway-destination-endpoint"
	header := ""
	for _, each := range response.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		if each.GetHeader().GetKey() == name {
			header = string(each.GetHeader().GetRawValue())
		}
	}
	envoyLB := response.GetDynamicMetadata().GetFields()["envoy.lb"].GetStructValue()
	if metadata := envoyLB.GetFields()[name].GetStringValue(); header == "" || metadata != header {
		return "", fmt.Errorf("destination %q in the header, %q in the metadata", header, metadata)
	}
	return header, nil
}
