package adaptertest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// brokenEnv makes TestBroken run with an adapter that does something wrong.
const brokenEnv = "FAIRLEAD_TEST_BROKEN"

func TestBroken(t *testing.T) {
	side, what, ok := strings.Cut(os.Getenv(brokenEnv), ":")
	if !ok {
		t.Skip("only for TestKitFindsBrokenAdapters")
	}
	if side == "sink" {
		c := sinkCase(what)
		c.Timeout = 2 * time.Second
		adaptertest.Sink(t, c)
		return
	}
	if side == "queue" {
		adaptertest.Source(t, adaptertest.SourceCase{
			Adapter: memoryQueue, New: brokenQueue(what), Timeout: 2 * time.Second, Ordered: true,
			Recalls: what != "silent recaller",
		})
		return
	}
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memory, New: sourceFixture(map[string]any{"broken": what}), Timeout: 2 * time.Second,
	})
}

// A kit that cannot fail proves nothing.
func TestKitFindsBrokenAdapters(t *testing.T) {
	for _, c := range []struct{ broken, check string }{
		{"source:truncated", "delivers_every_size_whole"},
		{"source:unstable keys", "keys_outlive_a_restart"},
		{"source:no settle", "settle_takes_only_what_was_delivered"},
		{"source:blind settle", "settle_spares_an_item_that_changed"},
		{"source:leak", "leaves_no_goroutines"},
		{"queue:backwards", "keeps_the_order_when_asked"},
		{"queue:recalls another", "brings_suspended_items_back"},
		{"queue:recalls once", "brings_suspended_items_back"},
		{"queue:recalls for ever", "brings_suspended_items_back"},
		{"queue:silent recaller", "brings_suspended_items_back"},
		{"queue:no recaller", "brings_suspended_items_back"},
		{"queue:deaf", "pause_takes_up_nothing_new_and_ends_well"},
		{"sink:truncated", "sends_every_size_whole_and_once"},
		{"sink:doubles", "the_same_message_twice_arrives_once"},
		{"sink:always arrived", "probe_tells_what_has_arrived"},
		{"sink:plain error", "says_that_it_is_disconnected,_and_recovers"},
	} {
		t.Run(c.broken, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBroken$/^"+c.check+"$", "-test.v")
			cmd.Env = append(os.Environ(), brokenEnv+"="+c.broken)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBroken/"+c.check) {
				t.Errorf("the check %s does not find it (%v):\n%s", c.check, err, out)
			}
		})
	}
}
