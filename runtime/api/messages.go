package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// maxOrderBody bounds an order about messages: MaxMessageIDs and a filter.
	maxOrderBody = 256 << 10
	// namedAlike is how many messages are named when a short ID fits several.
	namedAlike = 5
)

func listMessages(r *http.Request, x Exchange) (any, error) {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	m, err := f.Matcher()
	if err != nil {
		return nil, err
	}
	found, err := x.Messages(r.Context(), m.Filter)
	if err != nil {
		return nil, err
	}
	answer := MessageList{Messages: append([]Message{}, found.Messages...), Truncated: found.Truncated}
	for i := range answer.Messages {
		m := answer.Messages[i].withoutNulls()
		// A list of thousands stays small; the context was for the filter.
		m.Context, m.History = nil, nil
		answer.Messages[i] = m
	}
	return answer, nil
}

func showMessage(r *http.Request, x Exchange) (any, error) {
	id, err := wholeIDOf(r.Context(), x, r.PathValue("id"), true)
	if err != nil {
		return nil, err
	}
	m, err := x.Message(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return m.withoutNulls(), nil
}

// withoutNulls returns a copy whose lists are all there.
func (m *Message) withoutNulls() Message {
	c := *m
	c.Pending, c.Delivered, c.Attempts = orEmpty(m.Pending), orEmpty(m.Delivered), orEmpty(m.Attempts)
	return c
}

// orderMessages reads and checks an order and has it carried out.
func orderMessages(r *http.Request, x Exchange, carryOut func(context.Context, MessageOrder) (*OrderReply, error), ports bool) (any, error) {
	var o MessageOrder
	if err := decode(r, maxOrderBody, &o); err != nil {
		return nil, err
	}
	if o.Port != "" && !ports {
		return nil, BadRequest("port: what is discarded goes nowhere; a port to choose by belongs into filter")
	}
	switch {
	case len(o.IDs) > 0 && o.Filter != nil:
		return nil, BadRequest("ids and filter together: give the one or the other")
	case len(o.IDs) > MaxMessageIDs:
		return nil, BadRequest("%d ids: at most %d are possible in one order", len(o.IDs), MaxMessageIDs)
	case len(o.IDs) == 0 && o.Filter == nil:
		return nil, BadRequest("no message is chosen: give ids, or a filter (an empty one means all suspended messages)")
	}
	var err error
	if o.Filter != nil {
		o.Filter, err = orderFilter(*o.Filter)
	} else {
		o.IDs, err = wholeIDs(r.Context(), x, o.IDs)
	}
	if err != nil {
		return nil, err
	}
	reply, err := carryOut(r.Context(), o)
	if err != nil {
		return nil, err
	}
	return OrderReply{Done: reply.Done, Skipped: orEmpty(reply.Skipped)}, nil
}

// orderFilter is the filter of an order: many at once are dealt with only where they
// wait for a person.
func orderFilter(f MessageFilter) (*MessageFilter, error) {
	if f.State != "" && f.State != MessageSuspended {
		return nil, BadRequest("state %q: by filter only suspended messages are resumed or discarded; name others by their ids", f.State)
	}
	if f.History {
		return nil, BadRequest("history: what is in the history only cannot be resumed or discarded")
	}
	f.State = MessageSuspended
	m, err := f.Matcher()
	if err != nil {
		return nil, err
	}
	m.Filter.Limit = 0
	return &m.Filter, nil
}

// wholeIDs makes shortened IDs whole, each once.
func wholeIDs(ctx context.Context, x Exchange, ids []string) ([]string, error) {
	whole := make([]string, 0, len(ids))
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		id, err := wholeIDOf(ctx, x, id, false)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id] = true
			whole = append(whole, id)
		}
	}
	return whole, nil
}

// wholeIDOf makes a shortened ID whole.
func wholeIDOf(ctx context.Context, x Exchange, id string, history bool) (string, error) {
	id = strings.ToLower(id)
	switch {
	case !isID(id):
		return "", BadRequest("message %q: want an ID as in the list of messages, or its first %d characters or more", id, minShortID)
	case len(id) == wholeID:
		return id, nil
	}
	found, err := x.Messages(ctx, MessageFilter{ID: id, Limit: namedAlike, History: history})
	if err != nil {
		return "", err
	}
	// A message of which both the ledger and the history know is still one.
	alike := make([]string, 0, len(found.Messages))
	for _, m := range found.Messages {
		alike = append(alike, m.ID)
	}
	slices.Sort(alike)
	switch alike = slices.Compact(alike); len(alike) {
	case 0:
		return "", NotFound("no message begins with %s", id)
	case 1:
		return alike[0], nil
	default:
		return "", Conflict("several messages begin with %s: %s; give more of the ID", id, strings.Join(alike, ", "))
	}
}

// isID reports whether text is the beginning of an ID, or a whole one.
func isID(text string) bool {
	return len(text) >= minShortID && len(text) <= wholeID &&
		strings.Trim(text, "0123456789abcdef-") == ""
}

// Messages implements Exchange.
func (c *Client) Messages(ctx context.Context, f MessageFilter) (*MessageList, error) {
	return get[*MessageList](ctx, c, "/v1/messages", f.query())
}

// Message implements Exchange. The ID may be shortened.
func (c *Client) Message(ctx context.Context, id string) (*Message, error) {
	return get[*Message](ctx, c, "/v1/messages/"+url.PathEscape(id), nil)
}

// ResumeMessages implements Exchange.
func (c *Client) ResumeMessages(ctx context.Context, o MessageOrder) (*OrderReply, error) {
	var reply OrderReply
	err := c.call(ctx, http.MethodPost, "/v1/messages/resume", o, &reply)
	return &reply, err
}

// DiscardMessages implements Exchange.
func (c *Client) DiscardMessages(ctx context.Context, o MessageOrder) (*OrderReply, error) {
	var reply OrderReply
	err := c.call(ctx, http.MethodPost, "/v1/messages/discard", o, &reply)
	return &reply, err
}
