package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

func TestErrorsKeepTheirKindOnTheWayBetweenNodes(t *testing.T) {
	kinds := []error{ErrFenced, ErrStale, ErrUnknown, ErrIllegal, ErrNotLeader, ErrUnclear}
	for i, want := range kinds {
		sent := fmt.Errorf("group %q: %w", "g", want)
		reply := Refusal(7, sent)
		got := Err(reply)
		if !errors.Is(got, want) || got.Error() != sent.Error() || reply.GetIndex() != 7 {
			t.Errorf("%v arrived as %v at %d", sent, got, reply.GetIndex())
		}
		for j, other := range kinds {
			if j != i && errors.Is(got, other) {
				t.Errorf("%v arrived as %v, too", want, other)
			}
		}
	}
	if reply := Refusal(7, nil); Err(reply) != nil || reply.GetIndex() != 7 {
		t.Errorf("success arrived as %v", reply)
	}
}

// What one does not know may have happened.
func TestErrorsOfAnotherKindLeaveItOpen(t *testing.T) {
	for _, sent := range []error{context.DeadlineExceeded, errors.New("raft is already shutdown"), errClosed} {
		if got := Err(Refusal(0, sent)); !errors.Is(got, ErrUnclear) {
			t.Errorf("%v arrived as %v", sent, got)
		}
	}
	if got := Err(&peerpb.ProposeReply{Refusal: 99}); !errors.Is(got, ErrUnclear) || got.Error() == "" {
		t.Errorf("the refusal of a later version arrived as %v", got)
	}
}
