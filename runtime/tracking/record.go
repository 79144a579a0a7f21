package tracking

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The states of a message as its history tells them. What holds now, the ledger knows.
const (
	StateIntended  = "intended"  // on its way
	StateDelivered = "delivered" // at every port that it was routed to
	StateSuspended = "suspended"
	StateDiscarded = "discarded" // given up by a person, settled or not
	StateSettled   = "settled"
)

// Record is the history of one message, as far as the node that was asked knows it,
// or, after [Merge], several nodes.
type Record struct {
	Message  string `json:"message"`
	Location string `json:"location"`
	Key      string `json:"key,omitempty"`
	// Name and Context are those of the first received step. They are not repeated in
	// Steps.
	Name    string            `json:"name,omitempty"`
	Context map[string]string `json:"context,omitempty"`
	// Size is the content's, in bytes; 0 if no step tells it.
	Size int64 `json:"size"`
	// State is one of the constants above; empty if no step tells it.
	State string `json:"state"`
	// Ports are the send ports and for each the kind of its last step.
	Ports map[string]string `json:"ports,omitempty"`
	// Steps are in the order of their times, of which there is at least one.
	Steps []Step `json:"steps"`
	// Omitted is how many steps there are beyond those in Steps: of a message with very
	// many, the first and the newest are given.
	Omitted int `json:"omitted,omitempty"`
	// First and Last are the times of the first and the last step.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// newRecord makes a record of steps in the order in which they were noted.
func newRecord(steps []Step, omitted int) Record {
	r := Record{Steps: steps, Omitted: omitted}
	slices.SortStableFunc(r.Steps, func(a, b Step) int { return a.At.Compare(b.At) })
	for i := range r.Steps {
		st := &r.Steps[i]
		if r.Context == nil {
			r.Context = st.Context
		}
		r.Name = cmp.Or(r.Name, st.Name)
		st.Context, st.Name = nil, ""
	}
	r.sum()
	return r
}

// sum fills in what follows from the steps, and keeps what they do not tell.
func (r *Record) sum() {
	r.State, r.Ports = "", nil
	for i := range r.Steps {
		st := &r.Steps[i]
		r.Message, r.Location = cmp.Or(r.Message, st.Message), cmp.Or(r.Location, st.Location)
		r.Key, r.Size = cmp.Or(r.Key, st.Key), cmp.Or(r.Size, st.Size)
		if st.Port != "" {
			if r.Ports == nil {
				r.Ports = make(map[string]string)
			}
			r.Ports[st.Port] = st.Kind
		}
		r.State = r.after(st)
	}
	r.First, r.Last = r.Steps[0].At, r.Steps[len(r.Steps)-1].At
}

// after returns the state after the step. The clocks of several nodes differ, so what
// ends a message counts wherever it stands.
func (r *Record) after(st *Step) string {
	if r.State == StateDiscarded || r.State == StateSettled && st.Kind != Discarded {
		return r.State
	}
	switch st.Kind {
	case Settled:
		return StateSettled
	case Discarded:
		return StateDiscarded
	case Suspended:
		return StateSuspended
	case Resumed:
		return StateIntended
	case Received, Routed, Failed:
		return cmp.Or(r.State, StateIntended)
	case Sent:
		if r.everywhere() {
			return StateDelivered
		}
		return cmp.Or(r.State, StateIntended)
	}
	return r.State
}

// everywhere says whether every port has confirmed.
func (r *Record) everywhere() bool {
	for _, kind := range r.Ports {
		if kind != Sent {
			return false
		}
	}
	return true
}

// ranks order steps of the same time on several nodes.
var ranks = map[string]int{Received: 1, Routed: 2, Failed: 3, Sent: 4, Suspended: 5, Resumed: 6, Discarded: 7, Settled: 8}

// Merge puts the answers of several nodes together: one record for each message, with
// all its steps, the newest message first. The same step from two answers counts once.
// The answers themselves stay as they are; the records share their contexts with them.
//
// The order is that of the nodes' clocks. A node that was asked with a limit or a time
// may have left out steps of a message that another node gave: who needs all of them
// asks every node for the message by its ID.
func Merge(lists ...[]Record) []Record {
	byMessage := make(map[string]*Record)
	for _, list := range lists {
		for i := range list {
			if have := byMessage[list[i].Message]; have != nil {
				have.join(&list[i])
				continue
			}
			r := list[i]
			r.Steps, r.Ports = slices.Clone(r.Steps), maps.Clone(r.Ports)
			byMessage[r.Message] = &r
		}
	}
	merged := make([]Record, 0, len(byMessage))
	for _, r := range byMessage {
		merged = append(merged, *r)
	}
	newestFirst(merged)
	return merged
}

// join adds what another node knows of the same message.
func (r *Record) join(o *Record) {
	if o.First.Before(r.First) || r.Context == nil && r.Name == "" {
		r.Context, r.Name = either(o.Context, r.Context), cmp.Or(o.Name, r.Name)
	}
	r.Steps = append(r.Steps, o.Steps...)
	slices.SortStableFunc(r.Steps, func(a, b Step) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(ranks[a.Kind], ranks[b.Kind]))
	})
	r.Steps = slices.CompactFunc(r.Steps, sameStep)
	r.Omitted = max(r.Omitted, o.Omitted)
	r.Location, r.Key, r.Size = "", "", 0 // those of the first step, which may be another now
	r.sum()
}

func either(a, b map[string]string) map[string]string {
	if a != nil {
		return a
	}
	return b
}

func sameStep(a, b Step) bool {
	return a.At.Equal(b.At) && a.Kind == b.Kind && a.Node == b.Node && a.Port == b.Port && a.Attempt == b.Attempt && a.Text == b.Text
}

// newestFirst sorts by the last step; of equal ones the greater ID comes first, which
// for the runtime's IDs is the later.
func newestFirst(records []Record) {
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.Message, a.Message))
	})
}
