package api

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// States of a message. Those in MessageStates can be asked for.
const (
	// MessageSuspended is kept for a person's decision: its attempts are used up, its
	// error was final, no route matched it, or its port said so.
	MessageSuspended = "suspended"
	// MessageHeld waits, in a location with order, behind one that is suspended. It may
	// not be read yet, and then has no ID.
	MessageHeld = "held"
	// MessageInDoubt was begun by an owner that is gone; nobody can tell yet whether it
	// has arrived.
	MessageInDoubt = "in-doubt"
	// MessageInFlight is being sent, or waits for its next attempt.
	MessageInFlight = "in-flight"
	// MessageDelivered has arrived everywhere; its source has yet to be told.
	MessageDelivered = "delivered"
	// MessageDiscarded was given up by order; its source has yet to be told.
	MessageDiscarded = "discarded"
	// MessageSettled is done with. It is found in the history only.
	MessageSettled = "settled"
)

// MessageStates are the states GET /v1/messages filters by.
var MessageStates = []string{MessageSuspended, MessageInDoubt, MessageHeld, MessageInFlight, MessageDelivered,
	MessageDiscarded, MessageSettled}

const (
	// defaultMessages is how many messages are listed unless the filter says otherwise.
	defaultMessages = 1000
	// MaxMessages is how many messages can be listed at once.
	MaxMessages = 10_000
	// maxWhere bounds an expression, in bytes.
	maxWhere = 4 << 10
	// whereCost bounds the work for one message, in CEL's own unit, about one operation
	// or ten characters looked at: less than a millisecond.
	whereCost = 100_000
	// minShortID is to how many characters an ID may be shortened.
	minShortID = 8
	// wholeID is the length of an ID that is not shortened.
	wholeID = 36
)

// MessageFilter chooses messages. The zero value chooses all whose fate is not final.
// What is set must match together.
type MessageFilter struct {
	// State is one of MessageStates. MessageSettled implies History.
	State string `json:"state,omitempty"`
	// Location is the receive location's name.
	Location string `json:"location,omitempty"`
	// Port is a send port that the message goes to, has gone to, or was tried at.
	Port string `json:"port,omitempty"`
	// ID is how the message's ID begins.
	ID string `json:"id,omitempty"`
	// Since and Until are between which times the message was received, Since included;
	// where that is not known, Message.Since stands for it. Zero: no bound.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Where is a condition in CEL (https://cel.dev) over these variables: id, location,
	// key, name, state, reason and node (strings), size and attempts (integers), since
	// (a timestamp), pending and delivered (lists of strings) and context (a map of
	// strings), as in Message. It is of at most 4096 bytes. A message for which it
	// cannot be answered, such as one without the property asked for, does not match.
	Where string `json:"where,omitempty"`
	// Limit is how many messages are returned at most; 0 stands for 1000, and 10000 is
	// the most.
	Limit int `json:"limit,omitempty"`
	// History looks for messages whose fate is final, too, as far as their history is
	// kept.
	History bool `json:"history,omitempty"`
}

// MessageMatcher is a MessageFilter that was found right. Make it with
// MessageFilter.Matcher. Its methods may be called from several goroutines.
type MessageMatcher struct {
	// Filter is what it was made of, with its defaults filled in.
	Filter MessageFilter
	where  cel.Program
}

// Matcher checks the filter and makes it ready. Its errors are *Problem and say what
// would be right.
func (f MessageFilter) Matcher() (*MessageMatcher, error) {
	if f.State != "" && !slices.Contains(MessageStates, f.State) {
		return nil, BadRequest("unknown state %q; known are %s", f.State, strings.Join(MessageStates, ", "))
	}
	if f.Limit < 0 || f.Limit > MaxMessages {
		return nil, BadRequest("limit %d: want 1 to %d", f.Limit, MaxMessages)
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return nil, BadRequest("since %s is not before until %s: nothing can match",
			f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	if f.Limit == 0 {
		f.Limit = defaultMessages
	}
	f.History = f.History || f.State == MessageSettled
	f.ID = strings.ToLower(f.ID)
	m := &MessageMatcher{Filter: f}
	if f.Where == "" {
		return m, nil
	}
	var err error
	m.where, err = compileWhere(f.Where)
	return m, err
}

// Matches reports whether the filter chooses the message, whose context must be there
// if Where asks for it. Limit is the caller's business. The error is that of a
// condition that takes too much work.
func (m *MessageMatcher) Matches(msg *Message) (bool, error) {
	f := &m.Filter
	switch {
	case f.State != "" && f.State != msg.State,
		msg.State == MessageSettled && !f.History,
		f.Location != "" && f.Location != msg.Location,
		f.Port != "" && !msg.concerns(f.Port),
		!strings.HasPrefix(msg.ID, f.ID):
		return false, nil
	}
	at := msg.Since
	if msg.Received != nil {
		at = *msg.Received
	}
	if !f.Since.IsZero() && at.Before(f.Since) || !f.Until.IsZero() && !at.Before(f.Until) {
		return false, nil
	}
	if m.where == nil {
		return true, nil
	}
	return m.answers(msg)
}

func (m *MessageMatcher) answers(msg *Message) (bool, error) {
	v, _, err := m.where.Eval(map[string]any{
		"id": msg.ID, "location": msg.Location, "key": msg.Key, "name": msg.Name, "state": msg.State,
		"reason": msg.Reason, "node": msg.Node, "size": msg.Size, "attempts": int64(len(msg.Attempts)),
		"since": msg.Since, "pending": orEmpty(msg.Pending), "delivered": orEmpty(msg.Delivered), "context": msg.Context,
	})
	switch {
	case err != nil && strings.Contains(err.Error(), "cost limit exceeded"):
		return false, BadRequest("where: the condition takes too much work for message %s; make it simpler", msg.ID)
	case err != nil:
		return false, nil // such as a property that the message has not
	}
	return v == types.True, nil
}

// concerns reports whether the message has to do with the port.
func (m *Message) concerns(port string) bool {
	return slices.Contains(m.Pending, port) || slices.Contains(m.Delivered, port) ||
		slices.ContainsFunc(m.Attempts, func(a Attempt) bool { return a.Port == port }) ||
		slices.ContainsFunc(m.History, func(s Step) bool { return s.Port == port })
}

// whereLanguage is made once: it takes some milliseconds.
var whereLanguage = sync.OnceValues(func() (*cel.Env, error) {
	texts := cel.ListType(cel.StringType)
	return cel.NewEnv(
		cel.Variable("id", cel.StringType), cel.Variable("location", cel.StringType),
		cel.Variable("key", cel.StringType), cel.Variable("name", cel.StringType),
		cel.Variable("state", cel.StringType), cel.Variable("reason", cel.StringType),
		cel.Variable("node", cel.StringType), cel.Variable("size", cel.IntType),
		cel.Variable("attempts", cel.IntType), cel.Variable("since", cel.TimestampType),
		cel.Variable("pending", texts), cel.Variable("delivered", texts),
		cel.Variable("context", cel.MapType(cel.StringType, cel.StringType)),
	)
})

func compileWhere(text string) (cel.Program, error) {
	if len(text) > maxWhere {
		return nil, BadRequest("where: the condition has %d bytes, at most %d are possible", len(text), maxWhere)
	}
	env, err := whereLanguage()
	if err != nil {
		return nil, fmt.Errorf("make the language of where: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, BadRequest("where: %v", whereError(issues))
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, BadRequest("where: the condition gives %s, want true or false, such as location == \"orders\"", ast.OutputType())
	}
	p, err := env.Program(ast, cel.CostLimit(whereCost))
	if err != nil {
		return nil, BadRequest("where: %v", err)
	}
	return p, nil
}

// whereError says on one line what is wrong first, and where in the condition.
func whereError(issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return issues.Err()
	}
	text := all[0].Message
	if strings.HasPrefix(text, "undeclared reference to") {
		text += "; known are id, location, key, name, state, reason, node, size, attempts, since, pending, delivered, context"
	}
	return errors.New("column " + strconv.Itoa(all[0].Location.Column()+1) + ": " + text)
}

// query is the filter as part of an address.
func (f MessageFilter) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"state": f.State, "location": f.Location, "port": f.Port, "id": f.ID, "where": f.Where} {
		if v != "" {
			q.Set(name, v)
		}
	}
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			q.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.History {
		q.Set("history", "1")
	}
	return q
}

// filterOf is the inverse of query. A parameter that it does not know is an error, so
// that a misspelt one does not choose everything.
func filterOf(q url.Values) (f MessageFilter, err error) {
	for name, values := range q {
		v := values[len(values)-1]
		switch name {
		case "state":
			f.State = v
		case "location":
			f.Location = v
		case "port":
			f.Port = v
		case "id":
			f.ID = v
		case "where":
			f.Where = v
		case "since":
			f.Since, err = timeOf(name, v)
		case "until":
			f.Until, err = timeOf(name, v)
		case "limit":
			if f.Limit, err = strconv.Atoi(v); err != nil || f.Limit < 1 {
				err = BadRequest("limit=%q: want 1 to %d", v, MaxMessages)
			}
		case "history":
			if f.History, err = strconv.ParseBool(v); err != nil {
				err = BadRequest("history=%q: want 1 or 0", v)
			}
		default:
			err = BadRequest("unknown parameter %q; known are state, location, port, id, where, since, until, limit, history", name)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func timeOf(name, v string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return at, BadRequest("%s=%q: want a time as in RFC 3339, such as 2026-03-29T01:30:00Z", name, v)
	}
	return at, nil
}
