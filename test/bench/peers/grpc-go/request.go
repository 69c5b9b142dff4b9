package main

import (
	"encoding/json"
	"fmt"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// completion is what routing needs of a chat completion. The prompt stays as it came: its bytes are what keys are made
// of, and decoding the messages would be work that nobody asked for.
type completion struct {
	Model               string          `json:"model"`
	Messages            json.RawMessage `json:"messages"`
	Tools               json.RawMessage `json:"tools"`
	Stream              bool            `json:"stream"`
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	N                   *int            `json:"n"`
}

// decode reads a body into c, whose buffers are used again.
func (c *completion) decode(body []byte) error {
	*c = completion{Messages: c.Messages[:0], Tools: c.Tools[:0]}
	if err := json.Unmarshal(body, c); err != nil {
		return err
	}
	if c.Model == "" {
		return fmt.Errorf("model is missing")
	}
	if len(c.Messages) < 3 || c.Messages[0] != '[' {
		return fmt.Errorf("messages must be a list that is not empty")
	}
	if c.MaxTokens < 0 || c.MaxCompletionTokens < 0 {
		return fmt.Errorf("token limits must be positive")
	}
	return nil
}

// prompt is the text that keys are made of: tools first, as chat templates put them, then the messages without their
// closing bracket, where the next turn goes on. It is valid until the next call; scratch is used where it has parts.
func (c *completion) prompt(scratch []byte) (text, used []byte) {
	messages := c.Messages[:len(c.Messages)-1]
	if len(c.Tools) == 0 {
		return messages, scratch
	}
	scratch = append(append(scratch[:0], c.Tools...), messages...)
	return scratch, scratch
}

func (c *completion) outputTokens() int {
	if c.MaxCompletionTokens > 0 {
		return c.MaxCompletionTokens
	}
	return c.MaxTokens
}

// head is what counts of the request headers.
type head struct {
	method, path, contentType, requestID string
}

func readHead(headers *core.HeaderMap) head {
	var h head
	for _, header := range headers.GetHeaders() {
		switch header.GetKey() {
		case ":method":
			h.method = value(header)
		case ":path":
			h.path = value(header)
		case "content-type":
			h.contentType = value(header)
		case "x-request-id":
			h.requestID = value(header)
		}
	}
	return h
}

// value of a header: Envoy fills raw_value alone.
func value(header *core.HeaderValue) string {
	if raw := header.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return header.GetValue()
}

// check refuses what the headers alone tell: the HTTP status, or 0.
func (h *head) check() int32 {
	path, _, _ := strings.Cut(h.path, "?")
	media, _, _ := strings.Cut(h.contentType, ";")
	switch {
	case path != "/v1/chat/completions":
		return 404
	case h.method != "POST":
		return 405
	case !strings.EqualFold(strings.TrimSpace(media), "application/json"):
		return 415
	}
	return 0
}
