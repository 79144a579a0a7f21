// Package adaptertest checks that an adapter keeps the promises of package sdk. It
// serves the adapter in the test's process over real gRPC and plays the runtime's
// part: it grants the lease, polls, takes, settles, sends, probes, drains, and
// breaks off at the worst moments.
//
// A test supplies the real thing at the other end (an embedded or an installed
// server) and says what is narrow about the adapter; the kit does the rest, in
// subtests with telling names:
//
//	func TestConformance(t *testing.T) {
//		adaptertest.Source(t, adaptertest.SourceCase{
//			Adapter: adapter, // the value that main gives to sdk.Serve
//			New: func(t testing.TB) adaptertest.SourceFixture {
//				server := startServer(t) // stopped by t.Cleanup
//				return adaptertest.SourceFixture{
//					Properties: map[string]any{"address": server.Addr, "password": "x"},
//					Put:        func(t testing.TB, name string, content []byte) { server.Write(t, name, content) },
//					Remaining:  func(t testing.TB) []string { return server.Names(t) },
//				}
//			},
//			NameProperty: "ftp.name",
//		})
//		adaptertest.Sink(t, adaptertest.SinkCase{
//			Adapter: adapter,
//			New: func(t testing.TB) adaptertest.SinkFixture {
//				server := startServer(t)
//				return adaptertest.SinkFixture{
//					Properties: map[string]any{"address": server.Addr, "name": "{{fairlead.id}}.bin"},
//					Received:   func(t testing.TB) []adaptertest.Received { return server.Files(t) },
//				}
//			},
//			Deduplicates: true,
//		})
//	}
//
// Besides reading, settling, sending and probing the checks go through what a location
// meets in its life: a pause (a service window that closes, an operator's stop) during
// which nothing is taken up and what is under way ends well; a suspended item that is
// recalled, by the same process and by the next, and leaves its place only when it is
// delivered; content that comes with its offer; and order, where it is kept.
//
// For tests of an adapter's own, [Start] gives the same driver: a handler process
// in miniature, with a method for each thing a runtime can ask.
//
// The kit takes no part in what an adapter needs beyond that, such as the looks of
// its names or its behaviour under a slow peer.
package adaptertest

import (
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// SourceCase describes one adapter's receiving side, polled or pushed, to [Source].
// Only Adapter and New are required.
type SourceCase struct {
	Adapter sdk.Adapter
	// New makes an empty source for one subtest. Everything it starts it stops in
	// t.Cleanup.
	New func(t testing.TB) SourceFixture
	// NameProperty is the context property that must equal the name that was put,
	// such as "ftp.name". Empty: names are not compared.
	NameProperty string
	// Names are the names to try besides plain ones. nil: spaces, quotes, UTF-8, a
	// leading dash. An empty slice: plain names only.
	Names []string
	// Sizes are the sizes of content to try, in bytes. nil: 0, 1, 256 KiB - 1,
	// 256 KiB, 256 KiB + 1 and 3 MiB. All contents put differ from each other.
	Sizes []int
	// Content finds the bytes that were put in what the adapter delivered. nil: the
	// body as it is. A mail's source takes them out of the MIME structure here.
	Content func(t testing.TB, parts []Part) []byte
	// Kept says that with these properties the source keeps delivered items.
	Kept bool
	// Recalls says that the source is an sdk.Recaller. Polled sources need not say so:
	// what they suspend stays where it is, and is listed again.
	Recalls bool
	// Ordered says that the source gives its items in the order in which they were put,
	// when it is asked to (sdk.Env.Ordered). The order of others is not checked.
	Ordered bool
	// PollEvery is the location's interval. 0: 50 ms.
	PollEvery time.Duration
	// MaxInFlight of the location. 0: 16. Some checks hold all items of Sizes or
	// Names at a time: a pushed source cannot offer them with less.
	MaxInFlight int
	// Timeout bounds every single wait. 0: 15 s. Set it higher than the broker's
	// time of redelivery, where one has to be waited for.
	Timeout time.Duration
	// Goroutines are functions (as goleak.IgnoreAnyFunction names them) whose
	// goroutines outlive a handler for a good reason.
	Goroutines []string
}

// SourceFixture is the real thing at the other end of a source. Properties, Put and
// Remaining are required; what belongs to the others is skipped if they are nil.
type SourceFixture struct {
	// Properties of the endpoint: a map, a json.RawMessage, or anything else that
	// marshals to the JSON of a deployment. (The adapter's own struct does not, if
	// it has an sdk.Secret.)
	Properties any
	// MakeOrdered readies the source for a location that asks for order, where more is
	// needed than that. nil: nothing is.
	MakeOrdered func(t testing.TB)
	// Put makes an item whole and at once.
	Put func(t testing.TB, name string, content []byte)
	// Remaining returns the names of the items that are still there, in any order:
	// for queues those that are not acknowledged.
	Remaining func(t testing.TB) []string
	// Replace changes an item in place, so that it is a new item under the old
	// name (other content, size and time). The newcomer must survive a settle of
	// the old one.
	Replace func(t testing.TB, name string, content []byte)
	// Down makes the source unreachable, Up reachable again, with the items it had.
	Down, Up func(t testing.TB)
}

// Part is one part of what a source delivered, in memory.
type Part struct {
	Name        string
	ContentType string
	Content     []byte
	// Spooled says that it came through a file and not inline.
	Spooled bool
}

// SinkCase describes one adapter's sending side to [Sink]. Only Adapter and New are
// required.
type SinkCase struct {
	Adapter sdk.Adapter
	// New makes an empty destination for one subtest. Everything it starts it stops
	// in t.Cleanup.
	New func(t testing.TB) SinkFixture
	// Deduplicates says that sending a message again under the same ID leaves one.
	Deduplicates bool
	// Probes says that Probe proves arrival: Arrived after a send, not before.
	Probes bool
	// Context is what every message carries, such as {"ftp.name": "a b.txt"}.
	Context map[string]string
	// Sizes are the sizes of content to try, in bytes. nil: as for a source.
	Sizes []int
	// MaxInFlight of the port. 0: 4.
	MaxInFlight int
	// Timeout bounds every single wait. 0: 15 s.
	Timeout time.Duration
	// Goroutines, as in [SourceCase].
	Goroutines []string
}

// SinkFixture is the real thing at the other end of a sink. Properties and Received
// are required; what belongs to Down and Up is skipped if they are nil.
type SinkFixture struct {
	// Properties of the endpoint, as in [SourceFixture].
	Properties any
	// Received returns what a consumer at the destination can see, in any order,
	// with nothing that is still under way.
	Received func(t testing.TB) []Received
	// Down makes the destination unreachable, Up reachable again.
	Down, Up func(t testing.TB)
}

// Received is one thing that arrived at a destination.
type Received struct {
	// Name may be empty where the destination has none.
	Name    string
	Content []byte
}
