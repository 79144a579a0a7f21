package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publish gives a message to the stream that takes its subject, and returns nil only
// when a stream has confirmed it. Its errors are those of jetstream's PublishMsg, and
// errLost. It makes one attempt. Many may be under way at once.
func (c *conn) publish(ctx context.Context, m *nats.Msg) error {
	answer, err := c.ask(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return jetstream.ErrNoStreamResponse
	case err != nil:
		return err
	case plainlyConfirmed(answer.Data):
		return nil
	}
	var r struct {
		Error *jetstream.APIError `json:"error"`
		*jetstream.PubAck
	}
	switch err := json.Unmarshal(answer.Data, &r); {
	case err != nil:
		return jetstream.ErrInvalidJSAck
	case r.Error != nil:
		return fmt.Errorf("nats: %w", r.Error)
	case r.PubAck == nil || r.Stream == "":
		return jetstream.ErrInvalidJSAck
	}
	return nil
}

// plainlyConfirmed recognises the answer that nearly all messages get, such as
// {"stream":"ORDERS","seq":7}: reading it as JSON costs as much as all the rest of a
// publish.
func plainlyConfirmed(answer []byte) bool {
	const head = `{"stream":"`
	rest, ok := bytes.CutPrefix(answer, []byte(head))
	return ok && len(rest) > 0 && rest[0] != '"' && bytes.HasSuffix(rest, []byte("}")) &&
		bytes.Contains(rest, []byte(`,"seq":`)) && !bytes.Contains(rest, []byte(`"error"`))
}
