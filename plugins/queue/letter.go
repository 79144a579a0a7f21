package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

// letter is a stored message as it was first received, wherever it lies now.
type letter struct {
	stream  string
	seq     uint64
	stored  time.Time
	subject string
	header  nats.Header
	data    []byte
}

// key identifies the stored message. The sequence number begins anew when a stream is
// deleted and made again, hence the time of storing: both together never come back.
func (l *letter) key() string {
	return l.stream + ":" + strconv.FormatUint(l.seq, 10) + ":" + strconv.FormatInt(l.stored.UnixNano(), 10)
}

// parseKey undoes key.
func parseKey(key string) (l letter, err error) {
	rest, nanos, ok := cutLast(key)
	stream, seq, ok2 := cutLast(rest)
	if !ok || !ok2 || stream == "" {
		return l, fmt.Errorf("key %q is not one of this adapter, STREAM:SEQUENCE:TIME", key)
	}
	at, err := strconv.ParseInt(nanos, 10, 64)
	if err != nil {
		return l, fmt.Errorf("key %q: time: %w", key, err)
	}
	if l.seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return l, fmt.Errorf("key %q: sequence: %w", key, err)
	}
	l.stream, l.stored = stream, time.Unix(0, at)
	return l, nil
}

// cutLast cuts around the last colon: the name of a stream may contain some.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func (l *letter) item() sdk.Item {
	context := decodeHeaders(l.header)
	context[propDestination] = strings.ToValidUTF8(l.subject, "\uFFFD")
	id := headerValue(l.header, jetstream.MsgIDHeader)
	if id == "" {
		id = l.stream + ":" + strconv.FormatUint(l.seq, 10)
	}
	context[propMessageID] = strings.ToValidUTF8(id, "\uFFFD")
	return sdk.Item{Key: l.key(), Context: context, Size: int64(len(l.data))}
}

func (l *letter) open(context.Context) (*sdk.Content, error) {
	part := sdk.Part{
		Name:        textValue(l.header, headerPartName),
		ContentType: textValue(l.header, headerContentType),
		Reader:      bytes.NewReader(l.data),
	}
	return &sdk.Content{
		Parts: func(yield func(sdk.Part, error) bool) { yield(part, nil) },
		Close: func() error { return nil },
	}, nil
}
