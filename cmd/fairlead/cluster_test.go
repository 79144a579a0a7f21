package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/datadir"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	"github.com/fairlead-io/fairlead/runtime/transport"
)

// nobody is an address that takes no connection.
const nobody = "127.0.0.1:1"

// stoppedNode is the node file and the data directory of a stopped node-a, one of
// three voters; other is node-b's address.
func stoppedNode(t *testing.T, other string) (file, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	disk, err := ledger.DiskID(dir)
	if err != nil {
		t.Fatal(err)
	}
	port, err := transport.Listen(transport.Config{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ledger.Config{Node: "node-a", Disk: disk, DataDir: dir, Stream: port.StreamLayer(), Timing: ledger.Timing{
		Heartbeat: time.Second, Election: time.Second, LeaderLease: time.Second, Commit: time.Second,
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = l.Bootstrap([]ledger.Server{
		{Node: "node-a", Disk: disk, Address: port.Addr().String(), Voter: true},
		{Node: "node-b", Disk: "0b", Address: other, Voter: true},
		{Node: "node-c", Disk: "0c", Address: "127.0.0.1:2", Voter: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := port.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return ledgerNodeFile(t, dir), dir
}

func ledgerNodeFile(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.yaml")
	text := fmt.Sprintf("node: {name: node-a, data_dir: %q}\nlisten: {cluster: %q}\ncluster: {name: edi, bootstrap_expect: 3, join: [\"127.0.0.1:3\"]}\n", dir, nobody)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// voters are the names of those that the disk knows.
func voters(t *testing.T, dir string) (names []string) {
	t.Helper()
	r, err := ledger.Inspect("node-a", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Servers {
		names = append(names, s.Node)
	}
	return names
}

func TestRecoveryShowsWhatIsThereAndChangesNothingUnconfirmed(t *testing.T) {
	file, dir := stoppedNode(t, nobody)
	r := fairlead(t, "cluster", "recover", "-c", file)
	if r.code != exitDone || !strings.Contains(r.out, "nothing was changed: with --confirm edi") || !strings.Contains(r.out, "of those vote: node-b, node-c") {
		t.Errorf("exit status %d:\n%s%s", r.code, r.out, r.err)
	}
	r = fairlead(t, "cluster", "recover", "-c", file, "--confirm", "edo")
	if r.code != exitWrong || !strings.Contains(r.err, "the cluster's name is edi") {
		t.Errorf("exit status %d:\n%s", r.code, r.err)
	}
	if got := voters(t, dir); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
}

func TestRecoveryMakesAClusterOfOne(t *testing.T) {
	file, dir := stoppedNode(t, nobody)
	r := fairlead(t, "cluster", "recover", "-c", file, "--confirm", "edi", "-o", "json")
	var got recovery
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != exitDone {
		t.Fatalf("exit status %d, %v: %s%s", r.code, err, r.out, r.err)
	}
	if !got.Recovered || got.Cluster == "" || !slices.Equal(got.Voters, []string{"node-b", "node-c"}) {
		t.Errorf("got %+v", got)
	}
	if got := voters(t, dir); !slices.Equal(got, []string{"node-a"}) {
		t.Errorf("voters %v", got)
	}
}

func TestRecoveryIsRefusedWhileAnotherVoterAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // as a frozen node does: it says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, dir := stoppedNode(t, l.Addr().String())
	r := fairlead(t, "cluster", "recover", "-c", file, "--confirm", "edi")
	if r.code != exitFailed || !strings.Contains(r.err, "node-b answers on "+l.Addr().String()) {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	if got := voters(t, dir); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
}

func TestRecoveryIsRefusedWhileTheNodeRuns(t *testing.T) {
	file, dir := stoppedNode(t, nobody)
	lock, err := datadir.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	r := fairlead(t, "cluster", "recover", "-c", file, "--confirm", "edi")
	if r.code != exitFailed || !strings.Contains(r.err, "the node has to be stopped") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}

func TestRecoveryOfADirectoryWithoutALedgerIsRefused(t *testing.T) {
	for name, dir := range map[string]string{"empty": t.TempDir(), "missing": filepath.Join(t.TempDir(), "data")} {
		r := fairlead(t, "cluster", "recover", "-c", ledgerNodeFile(t, dir), "--confirm", "edi")
		if r.code != exitWrong || !strings.Contains(r.err, map[string]string{"empty": "holds no ledger", "missing": "does not exist"}[name]) {
			t.Errorf("%s: exit status %d: %s", name, r.code, r.err)
		}
	}
}

func TestRecoveryByAnotherUserThanTheNodesIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	file, dir := stoppedNode(t, nobody)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	r := fairlead(t, "cluster", "recover", "-c", file, "--confirm", "edi")
	if r.code != exitWrong || !strings.Contains(r.err, "sudo -u") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}
