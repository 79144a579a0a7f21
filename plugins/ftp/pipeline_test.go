package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

// length is how many wait.
func (q *settleQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// settleAll settles all items at the same time and returns the outcomes by name.
func settleAll(t *testing.T, src *source, items map[string]sdk.Item) map[string]error {
	t.Helper()
	ctx := testContext(t)
	var mu sync.Mutex
	outcomes := map[string]error{}
	var settling sync.WaitGroup
	for name, item := range items {
		settling.Go(func() {
			err := src.Settle(ctx, item)
			mu.Lock()
			defer mu.Unlock()
			outcomes[name] = err
		})
	}
	settling.Wait()
	return outcomes
}

// manyFiles puts files into the server's directory and lists them.
func manyFiles(t *testing.T, s *testServer, src *source, n int) map[string]sdk.Item {
	t.Helper()
	for i := range n {
		s.write(t, fmt.Sprintf("file-%03d", i), []byte("old"))
	}
	items := list(t, src)
	if len(items) != n {
		t.Fatalf("%d files are listed, want %d", len(items), n)
	}
	return items
}

// Whatever travels with a deletion: only files that are still those that were listed
// are deleted, and each settle hears what became of its own.
func TestFilesSettledTogetherHaveEachItsOwnOutcome(t *testing.T) {
	for _, disableMLSD := range []bool{false, true} {
		t.Run(fmt.Sprintf("without MLSD %v", disableMLSD), func(t *testing.T) {
			s := startServer(t, ftpd.Config{DisableMLSD: disableMLSD})
			src := newSource(t, with(s.props, "connections", 1))
			items := manyFiles(t, s, src, 150)
			s.write(t, "file-020", []byte("longer than before"))
			holder, err := src.Open(testContext(t), items["file-140"])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(s.Dir, "file-070")); err != nil {
				t.Fatal(err)
			}
			// The only connection is taken meanwhile, so that all settles wait for it.
			settled := make(chan map[string]error)
			go func() { settled <- settleAll(t, src, items) }()
			waitFor(t, "all settles to wait", func() bool { return src.queue.length() == 150 })
			holder.Close()
			for name, err := range <-settled {
				if other := name == "file-020" || name == "file-070"; sdk.IsGone(err) != other || err != nil != other {
					t.Errorf("settling %s: %v", name, err)
				}
			}
			if got := s.names(t); !slices.Equal(got, []string{"file-020"}) {
				t.Errorf("the directory holds %q, want only the file that changed", got)
			}
		})
	}
}

// A settle whose context ends while it waits is not done by others afterwards, and does
// not keep them waiting.
func TestSettleThatIsEndedWhileItWaitsIsWithdrawn(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, with(s.props, "connections", 1))
	items := manyFiles(t, s, src, 3)
	holder, err := src.Open(testContext(t), items["file-000"])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error, 2)
	go func() { ended <- src.Settle(ctx, items["file-001"]) }()
	waitFor(t, "the first to wait", func() bool { return src.queue.length() == 1 })
	settled := make(chan error, 1)
	go func() { settled <- src.Settle(testContext(t), items["file-002"]) }()
	waitFor(t, "the second to wait", func() bool { return src.queue.length() == 2 })
	cancel()
	if err := <-ended; err == nil {
		t.Error("a settle that was ended says it is done")
	}
	holder.Close()
	if err := <-settled; err != nil {
		t.Errorf("the other settle: %v", err)
	}
	if got := s.names(t); !slices.Contains(got, "file-001") || slices.Contains(got, "file-002") {
		t.Errorf("the directory holds %q: want file-001, whose settle was ended, and not file-002", got)
	}
}

// startForgetful starts a server that throws away what comes along with a command.
func startForgetful(t *testing.T, listing string) *scriptedServer {
	t.Helper()
	return startScripted(t, "MDTM SIZE", map[string]handler{
		"": func(c *scriptedConn, _ string) {
			c.forgetful = true
			c.say("220 ready")
		},
		"LIST": sends(listing), "MDTM": says("213 20260105103317"), "SIZE": says("213 3"),
	})
}

func TestServerThatTakesOneCommandAtATimeIsFoundOut(t *testing.T) {
	var listing strings.Builder
	for i := range 5 {
		fmt.Fprintf(&listing, "-rw-r--r-- 1 1 1 3 Jan 05 10:33 file-%d\r\n", i)
	}
	s := startForgetful(t, listing.String())
	src := newSource(t, s.props("timeout", "200ms", "connections", 1))
	items := list(t, src)
	if len(items) != 5 {
		t.Fatalf("%d files are listed, want 5", len(items))
	}
	if !src.pool.end.pipelining.off() {
		t.Error("several commands would be sent at once again")
	}
	for name, err := range settleAll(t, src, items) {
		if err != nil {
			t.Errorf("settle %s: %v", name, err)
		}
	}
	if got := s.count("DELE"); got != 5 {
		t.Errorf("%d files were deleted, want 5", got)
	}
	if got := s.count("USER"); got != 2 {
		t.Errorf("%d logins, want one and one after the failed attempt", got)
	}
}

func TestPipeliningThatOnceWorkedIsNotGivenUpForABrokenConnection(t *testing.T) {
	var p pipelining
	p.worked()
	if p.broke() || p.off() {
		t.Error("one broken connection turns it off")
	}
	var untried pipelining
	if !untried.broke() || !untried.off() {
		t.Error("a server that never managed is asked again")
	}
}

func TestDisablePipeliningSendsOneCommandAtATime(t *testing.T) {
	var listing strings.Builder
	for i := range 5 {
		fmt.Fprintf(&listing, "-rw-r--r-- 1 1 1 3 Jan 05 10:33 file-%d\r\n", i)
	}
	s := startForgetful(t, listing.String())
	src := newSource(t, s.props("disable_pipelining", true, "connections", 1))
	if n := len(list(t, src)); n != 5 {
		t.Errorf("%d files are listed, want 5", n)
	}
	if got := s.count("USER"); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
}

// What is not sent ahead cannot be mistaken for it.
func TestCommandThatWasNotSentAheadIsRefused(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	lines := bufio.NewScanner(server)
	got := make(chan string, 4)
	go func() { // ends with the pipe
		for lines.Scan() {
			got <- lines.Text()
		}
		close(got)
	}()
	c := &controlConn{Conn: client}
	if err := c.sendAhead([]byte("MDTM a\r\nMDTM b\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("MDTM a\r\n")); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("DELE b\r\n")); err == nil {
		t.Error("another command than the announced one was taken")
	}
	if err := c.sendAhead([]byte("NOOP\r\n")); err == nil {
		t.Error("commands were sent ahead of commands")
	}
	if _, err := c.Write([]byte("MDTM b\r\n")); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("DELE b\r\n")); err != nil {
		t.Error(err)
	}
	client.Close()
	var all []string
	for line := range got {
		all = append(all, line)
	}
	if want := []string{"MDTM a", "MDTM b", "DELE b"}; !slices.Equal(all, want) {
		t.Errorf("the server got %q, want %q", all, want)
	}
}

// Whoever is on the way can put words before the encryption; they must not be taken
// for the server's.
func TestWordsBeforeTheEncryptionAreRefused(t *testing.T) {
	s := startScripted(t, "", map[string]handler{"AUTH": says("234 go on\r\n230 welcome, no password needed")})
	props := s.props("tls", tlsExplicit, "insecure_skip_verify", true, "timeout", "5s")
	_, err := newSource(t, props).List(testContext(t))
	mustContain(t, err, "in plain text")
}
