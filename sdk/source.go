package sdk

import (
	"context"
	"io"
	"iter"
	"time"
)

// Item is what a source offers before it is read.
type Item struct {
	// Key is the stable identity of this very version of the item: two items with
	// the same key are the same item, on every node and after every restart. It
	// must need no reading of the content (path, size and time of a file; the UIDL
	// of a mail). At most 1,024 bytes of UTF-8; the SDK replaces a longer one by
	// its hash.
	Key string
	// Context becomes the message's properties, such as "ftp.name".
	Context map[string]string
	// Size in bytes, -1 if it is not known before reading. A pushed item whose parts
	// together are larger than this is not read in the quick way of small ones.
	Size int64
	// Kept says that the source keeps the item after delivery (leave on server).
	// Such an item is never settled; it is known as delivered for as long as it is
	// listed.
	Kept bool
	// StableFor holds the item back until it has been listed under the same key, with
	// the same Version, for this long. With a key or a version that contains size and
	// time this is the guard against files that are still being written. 0: take it at
	// once.
	//
	// A new process has seen nothing yet, so all of its first listing that has a
	// StableFor waits, and the location with it: keep it to seconds.
	StableFor time.Duration
	// Version is what else must not change while StableFor passes, where the key is
	// that of all versions of the item. It has no meaning beyond that.
	Version string
	// Handle is the adapter's own. It stays in the process and comes back in Open
	// and Settle.
	Handle any
}

// PolledSource is one endpoint that is asked what it has.
//
// List is never called twice at the same time. Open and Settle may run at the
// same time as each other and as List, for different items, up to the endpoint's
// max_in_flight; a source with a single connection serialises them itself.
type PolledSource interface {
	// List returns everything the source now holds, whether listed before or not.
	// It must be complete or fail: an item that is missing from a complete listing
	// counts as gone. It is called when the handler starts, at each interval of the
	// location's schedule, on demand, and when a held back item may be stable. Its
	// context lasts 5 minutes.
	//
	// Any error makes the SDK back off (from 1 s to 1 min, or to the interval if
	// that is longer) and report; none disables the location.
	List(ctx context.Context) ([]Item, error)

	// Open reads one item that List returned. An error from it, from a part's
	// reader, or from Content.Close means that the content was not read whole, and
	// nothing of it is used. Retryable errors lead to a later attempt, [Permanent]
	// ones suspend the item, [Gone] ones drop it, [Disconnected] ones back off the
	// location.
	//
	// The context covers the reading up to the end of Content.Close. It lasts an
	// hour, and 2 minutes without a byte end it: readers must then return.
	Open(ctx context.Context, item Item) (*Content, error)

	// Settle removes, moves or marks an item whose message has been delivered to
	// every port. It returns nil only when the source has confirmed it. Before it
	// deletes it looks at the item again, where the protocol allows, and returns
	// [Gone] if that is not the item that was read. Other errors lead to further
	// attempts, with growing pauses, until it succeeds or the handler drains. After
	// a change of owner it is called for an item of a fresh listing that an earlier
	// owner delivered, without Open. Its context lasts a minute.
	Settle(ctx context.Context, item Item) error

	// Close frees what the source holds. It is called once, after everything else.
	Close() error
}

// Batcher is a PolledSource that wants to know when a round of work is over, as
// POP3 does, whose deletions count only after the session's end. After the last
// of the items settled so far, and at least once per poll in which anything was
// settled, Flush is called; Settle's results count only when the following Flush
// returns nil. An error from it makes the SDK list again and settle those of the
// items that are still there. Flush is never called at the same time as another
// method of the source; its context lasts a minute. It comes as soon as no other
// item is being read or settled, and else after 2 seconds or 64 settled items.
type Batcher interface {
	PolledSource
	Flush(ctx context.Context) error
}

// Content is what Open returns: parts to be read in order, the body first.
type Content struct {
	// Context is added to the item's, for what is known only after opening.
	Context map[string]string
	// Parts yields the parts. The reader of one is not used after the next is
	// asked for. An error ends the reading.
	Parts iter.Seq2[Part, error]
	// Close ends the reading and is called exactly once, early if reading failed.
	// When all parts were read, its error means that they were not complete.
	Close func() error
}

// Part is one part of an item's content.
type Part struct {
	Name        string
	ContentType string
	Reader      io.Reader
}

// Body returns the content of an item that has one part.
func Body(r io.ReadCloser) *Content {
	return &Content{
		Parts: func(yield func(Part, error) bool) { yield(Part{Reader: r}, nil) },
		Close: r.Close,
	}
}

// PushedSource is one endpoint that is handed items, such as a queue's consumer.
type PushedSource interface {
	// Run receives until ctx ends and calls deliver for every item, from as many
	// goroutines as it likes: deliver blocks while the endpoint's max_in_flight
	// is used up. On drain, and when the location is paused, ctx ends; deliveries
	// under way may go on until they return, and Run may return before them. After a
	// pause it is called again, also while some of the deliveries before it go on.
	// When Run returns although ctx has not ended, with an error or without, the SDK
	// waits for the deliveries, backs off and runs it again.
	//
	// Where the items are to be given in their order (see Env.Ordered) one delivery
	// is let through at a time.
	Run(ctx context.Context, deliver Deliver) error

	// Close frees what the source holds. It is called once, after Run has returned.
	Close() error
}

// Recaller is a PushedSource whose suspended items can be brought back: after
// [Suspended] they lie in a dead-letter queue, or where they were.
type Recaller interface {
	PushedSource
	// Recall finds the item that was put aside under this key and returns it, to be
	// delivered as if the source had just handed it over: the same key and content;
	// Settle with [Delivered] removes it from where it lies, with [Suspended] or
	// [Retry] it stays there. [Gone] says that it is not there any more. It may run
	// at the same time as Run, while the location is paused and Run is not called, and
	// for several items at once, up to max_in_flight. An error of another kind has the
	// runtime ask again, [Permanent] has it leave the item aside. Its context lasts a
	// minute.
	//
	// Key is the one that the item had, if that was of 1,024 bytes at most: others are
	// not asked for, because only their hash is known.
	Recall(ctx context.Context, key string) (Delivery, error)
}

// Deliver hands one item to the runtime and returns when its fate is known and
// settled, or when it never will be: an error means that the item was not
// settled and the broker has to offer it again. It returns early when ctx ends:
// let ctx end when the broker has taken the item back. Two deliveries of one key at
// the same time are an error of the second.
type Deliver func(ctx context.Context, d Delivery) (Verdict, error)

// Delivery is one item of a pushed source.
type Delivery struct {
	Item Item
	// Open reads the content; as PolledSource.Open. Called at most once, and not at
	// all if the item's fate is known already. Of an item whose Size is small it may
	// be called before the runtime has asked for the content.
	Open func(ctx context.Context) (*Content, error)
	// Settle tells the broker. It returns nil only when the broker has confirmed. It
	// is called at most once: after an error the item has to be offered again. Its
	// context lasts a minute.
	Settle func(ctx context.Context, v Verdict) error
}

// Verdict is what became of an item.
type Verdict int

const (
	// Delivered: every port has it; acknowledge it.
	Delivered Verdict = iota + 1
	// Suspended: it will not be delivered; dead-letter it, or leave it aside.
	Suspended
	// Retry: not now; give it back so that it is offered again.
	Retry
)
