package sdk

import (
	"context"
	"io"
)

// Sink is one endpoint that messages are sent to.
type Sink interface {
	// Send delivers the message and returns nil only when the destination has
	// confirmed it whole. Arrival must be atomic (nothing partial is ever visible
	// under a final name) and should be repeatable under the message's ID.
	//
	// It is called from up to max_in_flight goroutines. A plain error is
	// retryable and means that the message may have arrived all the same: the
	// runtime probes before it sends again. [Disconnected] and [Permanent] say
	// that it has not. Its context lasts an hour.
	Send(ctx context.Context, m *Message) error

	// Close frees what the sink holds. It is called once, after everything else.
	Close() error
}

// Prober is a Sink that can tell whether a message has arrived. Its adapter says
// so with [Probes].
type Prober interface {
	Sink
	// Probe is asked before a message is sent again that may have arrived, after
	// a failure or a change of owner. Answer Arrived only on proof: a wrong
	// Arrived loses the message. Its context lasts a minute.
	Probe(ctx context.Context, m *Message) (Arrival, error)
}

// Arrival is the answer of a Prober.
type Arrival int

const (
	// Arrived: it is there, whole.
	Arrived Arrival = iota + 1
	// Absent: it is not there, or sending it again cannot double it.
	Absent
	// Unknown: the sink cannot tell. The port's in_doubt setting decides.
	Unknown
)

// Message is what a sink sends. It is read-only and may be used until Send or
// Probe returns.
type Message struct {
	// ID is a UUIDv7, the same at every attempt and on every node.
	ID string
	// Context holds the message's properties, such as "ftp.name".
	Context map[string]string
	// Parts is never empty; the body is first.
	Parts []MessagePart
	// Redelivered is set when an earlier attempt may have arrived.
	Redelivered bool
}

// Body is the message's first part.
func (m *Message) Body() *MessagePart { return &m.Parts[0] }

// MessagePart is one part of a message.
type MessagePart struct {
	Name        string
	ContentType string
	Size        int64
	// SHA256 of the content.
	SHA256 []byte

	inline []byte
	path   string
}

// Open returns a reader of the whole content, from its beginning. It may be
// called several times, and at the same time.
func (p *MessagePart) Open() (io.ReadCloser, error) { return p.open() }
