// Package sdk is what the author of a Fairlead adapter imports.
//
// An adapter is a kind of endpoint (FTP, POP3, a queue, ...), delivered as one
// binary, fairlead-adapter-NAME, whose main is one call of [Serve]. It can
// receive, send, or both:
//
//   - a [PolledSource] lists what is there, opens items and settles them;
//   - a [PushedSource] is handed a deliver function and calls it;
//   - a [Sink] sends messages, and is a [Prober] if it can tell what has arrived.
//
// The endpoint's properties are a plain struct with tags, from which come the
// JSON Schema, the defaults, the validation and the reference page (see
// [Properties]).
//
// Everything else is done here: scheduling, concurrency, back-off, waiting until
// a growing file is stable, keeping track of keys, spooling of large content,
// the lease and the orderly stop.
//
// # The life of a handler
//
// A handler is one process of the adapter on the node that owns its host.
//
//  1. The runtime starts the process and asks what it is.
//  2. For every endpoint of the host the SDK decodes the properties and calls the
//     adapter's open function, once per endpoint. No network is needed yet: most
//     adapters connect at first use.
//  3. Sources are listed or run, items are opened, messages sent, as long as the
//     runtime renews the lease. Methods of one endpoint may be called from several
//     goroutines, up to its max_in_flight, unless their comment says otherwise.
//  4. On drain nothing new is taken up; what is under way ends.
//  5. Close is called on every endpoint, and the process exits.
//
// Every context passed to an adapter ends at the latest when the lease does, and
// the process exits at that moment whatever the adapter does: after it another
// node may act. An adapter needs to do nothing about this, except that its
// effects must pass through calls that the SDK makes. How long each method may take
// stands in its comment.
//
// A panic in a method is logged and counts as a plain error; the other endpoints go
// on. One in a goroutine of the adapter's own ends the process, and the runtime
// starts another.
//
// Package adaptertest checks that an adapter keeps what is promised here; the
// example shows a whole one.
package sdk

import (
	"context"
	"log/slog"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

// ProtocolVersion is the version of the wire between runtime and adapter.
const ProtocolVersion = wire.ProtocolVersion

// Adapter describes one adapter. At least one of Receive and Send is set.
type Adapter struct {
	// Name as it stands in deployments: lower case letters, digits and dashes.
	Name string
	// Version is a semantic version.
	Version string
	// Summary is one sentence for `fairlead adapter list`.
	Summary string
	// Receive is made by Polled or Pushed.
	Receive Receiver
	// Send is made by Sends.
	Send Sender
}

// Env is what an endpoint gets from the SDK besides its properties.
type Env struct {
	// Endpoint is the name of the receive location or send port.
	Endpoint string
	// Host and Node say where it runs.
	Host, Node string
	// Cluster identifies the cluster among all others, also among those of its name. It
	// is the same after the cluster was recovered from what is left of its ledger.
	Cluster string
	// Epoch is the fencing token of the ownership under which the process runs: it is
	// larger at every owner after this one. Two processes of one endpoint may have the
	// same, one after the other. 0 where a host runs on every node.
	Epoch uint64
	// Ordered asks a source to give its items in their order: a polled one lists
	// them in it, a pushed one delivers the next item only when it has got the
	// verdict on the one before.
	Ordered bool
	// MaxInFlight is how many items the runtime takes, or messages it sends, at once.
	MaxInFlight int
	// Log goes into the node's log, with the endpoint's name. It must not be
	// given secrets.
	Log *slog.Logger
}

// Receiver is the receiving side of an adapter: the result of [Polled] or
// [Pushed].
type Receiver interface{ receiver() *receiverKind }

// Sender is the sending side of an adapter: the result of [Sends].
type Sender interface{ sender() *senderKind }

// Option refines a side of an adapter.
type Option func(*options)

type options struct{ exclusive, probes bool }

// Exclusive says that two handlers reading the same endpoint would take items
// twice (no lock, no claim), so that hosts of such locations must be clustered.
func Exclusive() Option { return func(o *options) { o.exclusive = true } }

// Probes says that sinks of this adapter are a [Prober], at least with some
// properties. The runtime knows it before it opens one. An endpoint whose sink is
// a Prober without this being said is rejected, because it would never be asked.
func Probes() Option { return func(o *options) { o.probes = true } }

// Polled makes the receiving side from a function that opens a source for one
// endpoint with properties P.
func Polled[P any](open func(ctx context.Context, p P, env Env) (PolledSource, error), opts ...Option) Receiver {
	k := newReceiverKind[P](opts)
	k.openPolled = func(ctx context.Context, properties []byte, env Env) (PolledSource, error) {
		p, err := DecodeProperties[P](properties)
		if err != nil {
			return nil, err
		}
		return open(ctx, p, env)
	}
	return k
}

// Pushed makes the receiving side from a function that opens a source for one
// endpoint with properties P.
func Pushed[P any](open func(ctx context.Context, p P, env Env) (PushedSource, error), opts ...Option) Receiver {
	k := newReceiverKind[P](opts)
	k.openPushed = func(ctx context.Context, properties []byte, env Env) (PushedSource, error) {
		p, err := DecodeProperties[P](properties)
		if err != nil {
			return nil, err
		}
		return open(ctx, p, env)
	}
	return k
}

// Sends makes the sending side from a function that opens a sink for one
// endpoint with properties P.
func Sends[P any](open func(ctx context.Context, p P, env Env) (Sink, error), opts ...Option) Sender {
	k := newSenderKind[P](opts)
	k.open = func(ctx context.Context, properties []byte, env Env) (Sink, error) {
		p, err := DecodeProperties[P](properties)
		if err != nil {
			return nil, err
		}
		return open(ctx, p, env)
	}
	return k
}

// receiverKind and senderKind hold what Serve needs, with the properties' type
// erased.
type receiverKind struct {
	options
	schema     func() ([]byte, error)
	check      func(properties []byte) error
	openPolled func(context.Context, []byte, Env) (PolledSource, error)
	openPushed func(context.Context, []byte, Env) (PushedSource, error)
}

type senderKind struct {
	options
	schema func() ([]byte, error)
	check  func(properties []byte) error
	open   func(context.Context, []byte, Env) (Sink, error)
}

func newReceiverKind[P any](opts []Option) *receiverKind {
	k := &receiverKind{schema: Schema[P], check: checkProperties[P]}
	for _, o := range opts {
		o(&k.options)
	}
	return k
}

func newSenderKind[P any](opts []Option) *senderKind {
	k := &senderKind{schema: Schema[P], check: checkProperties[P]}
	for _, o := range opts {
		o(&k.options)
	}
	return k
}

func checkProperties[P any](data []byte) error {
	_, err := DecodeProperties[P](data)
	return err
}

func (k *receiverKind) receiver() *receiverKind { return k }
func (k *senderKind) sender() *senderKind       { return k }
