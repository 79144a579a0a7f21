package exchange

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// inlineMax is the size up to which content stays in memory.
	inlineMax = 256 << 10
	// OfferInlineMax is the size up to which content may come with its offer.
	OfferInlineMax = 64 << 10
	// unknownSize is the room reserved for an item whose size is not known.
	unknownSize = 64 << 20
)

// read takes the item's content into memory or the spool. Nothing has been sent
// then, and nothing need be committed: what is read in vain is read again.
func (c *carriage) read(ctx context.Context) error {
	if c.id == "" {
		c.id = c.r.e.cfg.NewID()
	}
	content := c.content
	c.content = nil
	if content == nil {
		var err error
		if content, err = c.fetch(ctx); err != nil {
			return c.notRead(ctx, err)
		}
	}
	if len(content.GetParts()) == 0 {
		return c.notRead(ctx, errors.New("the adapter answered without content"))
	}
	c.m = c.message(content)
	c.r.note(c.name(), nil)
	c.tell(Happening{Kind: "received", Size: sizeOf(c.m), Context: c.m.GetContext()})
	if c.r.loc.Keep && c.r.e.cfg.Keep != nil {
		if err := c.r.e.cfg.Keep(ctx, c.m); err != nil && ctx.Err() == nil {
			c.log().Warn("no copy of the content is kept", "error", err) // it is for people: the message goes on
		}
	}
	return nil
}

// fetch asks the source for the content, when there is room for it.
func (c *carriage) fetch(ctx context.Context) (*adapterpb.Content, error) {
	size := c.item.GetSize()
	if size < 0 {
		size = unknownSize
	}
	var room int64
	if size > inlineMax {
		room = size
	}
	c.room.free()
	waited := false
	slot, err := c.r.e.cfg.Spool.reserve(ctx, room, func() { waited = true; c.r.waitingForSpool(1) })
	if waited {
		c.r.waitingForSpool(-1)
	}
	if err != nil {
		return nil, err
	}
	c.room = slot
	return c.take(ctx, 2*size+1<<20)
}

func (c *carriage) take(ctx context.Context, limit int64) (*adapterpb.Content, error) {
	dir := ""
	if size := c.item.GetSize(); size < 0 || size > inlineMax/2 { // it may grow a little and still be inline
		var err error
		if dir, err = c.room.path(); err != nil {
			return nil, err
		}
	}
	reply, err := c.ask(ctx, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
		Location: c.r.loc.Name, Key: c.item.GetKey(), SpoolDir: dir, InlineMax: inlineMax, MaxBytes: limit,
	}}})
	if err != nil {
		return nil, err
	}
	if failed := reply.GetReadFailed(); failed != nil {
		return nil, fromWire(failed.GetError())
	}
	return reply.GetContent(), nil
}

// properties are what is known of an item before it is read.
func (r *receiver) properties(item *adapterpb.Item) map[string]string {
	properties := make(map[string]string, len(item.GetContext())+1)
	maps.Copy(properties, item.GetContext())
	properties["fairlead.location"] = r.loc.Name
	return properties
}

// message puts together what travels. All of it is the same at every attempt.
func (c *carriage) message(content *adapterpb.Content) *Message {
	properties := c.r.properties(c.item)
	maps.Copy(properties, content.GetContext())
	properties["fairlead.id"] = c.id
	properties["fairlead.location"] = c.r.loc.Name
	if id, err := uuid.Parse(c.id); err == nil {
		sec, nsec := id.Time().UnixTime()
		properties["fairlead.received_at"] = time.Unix(sec, nsec).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
	}
	return &Message{Id: c.id, Context: properties, Parts: content.GetParts()}
}

func sizeOf(m *Message) (n int64) {
	for _, p := range m.GetParts() {
		n += p.GetSize()
	}
	return n
}

// notRead decides what a failed read means for the item; never nil.
func (c *carriage) notRead(ctx context.Context, err error) error {
	var a *AdapterError
	if !errors.As(err, &a) {
		return err
	}
	switch a.Kind {
	case adapterpb.Error_GONE:
		return c.vanished(ctx, err)
	case adapterpb.Error_PERMANENT:
		return c.refuse(ctx, "it cannot be read: "+a.Text)
	case adapterpb.Error_RETRYABLE:
		if c.r.trouble(c.item.GetKey()) {
			return c.refuse(ctx, fmt.Sprintf("it could not be read %d times: %s", maxReadFailures, a.Text))
		}
	}
	return fmt.Errorf("read: %w", err)
}

// vanished ends an item that was there and is not any more.
func (c *carriage) vanished(ctx context.Context, err error) error {
	if c.doubt {
		return fmt.Errorf("%w; it was in doubt", errGone)
	}
	// Nothing of it was ever sent, so nothing is owed.
	c.log().Warn("item vanished before it was read", "error", err)
	if c.fate == nil {
		return errEnded
	}
	if err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Forget{Forget: &pb.Forget{}}}); err != nil {
		return err
	}
	c.set(nil)
	return errEnded
}
