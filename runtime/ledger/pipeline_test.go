package ledger

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// hashicorp/raft#612: a follower that could not write one entry got none any more.
func TestAPipelineEndsWithTheFirstRequestThatFails(t *testing.T) {
	transport := func() *raft.NetworkTransport {
		tr, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 1, 5*time.Second, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		})
		return tr
	}
	leader, follower := transport(), transport()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() { // a follower with a full disk
		defer close(stopped)
		for {
			select {
			case rpc := <-follower.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{}, nil)
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { close(done); <-stopped })
	inner, err := leader.AppendEntriesPipeline("b", follower.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(inner)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	failed := make(chan struct{})
	go func() { // ends when the pipeline does
		defer close(failed)
		for {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); err != nil {
				return
			}
		}
	}()
	select {
	case f := <-p.Consumer():
		if f.Response().Success {
			t.Error("the refusal arrived as success")
		}
	case <-time.After(longest):
		t.Fatal("no reply")
	}
	// Nobody reads replies any more, as in raft.
	select {
	case <-failed:
	case <-time.After(longest):
		t.Fatal("the next request waits for ever")
	}
}
