package crash

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/afero"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/runtime/exchange"
)

// These are faults of other products that cost their users messages or gave them
// duplicates, each with the number of its thread.

// kept makes a campaign whose source keeps what was delivered: only the ledger knows
// what is done.
func kept(t *testing.T, w *world, to string) (*campaign, *folder) {
	t.Helper()
	from := w.folder(t, "kept-in")
	from.text = `{directory: "` + from.dir + `", stable_for: 0s, after_delivery: keep}`
	c := between(t, from, w.destination(t, to, "kept"))
	c.node.deploy(plan("file", from.endpoint(), polled("file"), to, c.to.endpoint(), ""))
	return c, from
}

// arrived waits until the destination has as many contents as were put in, and judges
// them.
func (c *campaign) arrived() {
	c.t.Helper()
	eventually(c.t, settledWithin, func() string {
		v := c.verdict()
		if v.Lost > 0 {
			return v.String() + "\n" + strings.Join(v.Problems, "\n")
		}
		return ""
	})
	if v := c.verdict(); !v.OK() {
		c.t.Fatalf("%v\n%s", v, strings.Join(v.Problems, "\n"))
	}
}

// sentinel puts one item in and waits for it: whatever was listed before it has been
// looked at.
func (c *campaign) sentinel() {
	c.t.Helper()
	one := c.batch()[:1]
	c.all = append(c.all, one...)
	c.from.put(c.t, one...)
	c.arrived()
}

// apache/camel#25726: the mark of what was done was removed by another attempt at a
// file of the same name that failed; the file was taken again.
func TestADoneMarkOutlivesAFailedAttemptAtTheSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, from := kept(t, w, "queue")
	c.sentinel()
	done := c.all[0]
	path := filepath.Join(from.dir, done.Name)
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	// Another version of it is more than the broker takes, and is suspended.
	from.put(t, cluster.Item{Name: done.Name, Content: make([]byte, maxItem+1)})
	eventually(t, settledWithin, func() string {
		s, err := c.node.status()
		switch {
		case err != nil:
			return err.Error()
		case s.ReceiveLocations[0].Suspended != 1:
			return "the version that is too large is not suspended"
		}
		return ""
	})
	// The first version is there again, the same to the byte and the nanosecond.
	staged := filepath.Join(from.staging, done.Name)
	if err := os.WriteFile(staged, done.Content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(staged, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(staged, path); err != nil {
		t.Fatal(err)
	}
	c.sentinel()
	// Nor does a crash with another item under way remove it.
	c.node.arm(exchange.StepSending, 1, c.node.pid())
	c.put()
	c.node.died(exchange.StepSending, 1)
	c.node.start()
	c.arrived()
	c.sentinel()
}

// apache/camel#24748: the key was calculated again after the file had been moved, and
// stored under that name; later files of the same name were silently never read.
func TestLaterFilesOfTheSameNameAreReadAfterAMove(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ftp", "file"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			from := w.source(t, kind, "moved").(*folder)
			from.text = strings.TrimSuffix(from.text, "}") + ", after_delivery: move, move_to: ../moved}"
			if err := os.Mkdir(filepath.Join(w.root, "moved"), 0o700); err != nil {
				t.Fatal(err)
			}
			c := between(t, from, w.destination(t, "file", "moved"))
			c.node.deploy(plan(kind, from.endpoint(), polled(kind), "file", c.to.endpoint(), ""))
			content := []byte("order 0")
			for i := range 4 {
				// The same name and size, one minute apart, as a partner's nightly export.
				content[len(content)-1]++
				item := cluster.Item{Name: "orders.edi", Content: slices.Clone(content)}
				c.all = append(c.all, item)
				if i == 2 {
					c.node.arm(exchange.StepSettled, 1, c.node.pid())
				}
				from.putAt(t, item, time.Now().Add(time.Duration(i-10)*time.Minute))
				if i == 2 {
					c.node.died(exchange.StepSettled, 1)
					c.node.start()
				}
				c.settled()
			}
		})
	}
}

// putAt lets an item appear with the given time.
func (f *folder) putAt(t testing.TB, item cluster.Item, at time.Time) {
	t.Helper()
	staged := filepath.Join(f.staging, item.Name)
	if err := os.WriteFile(staged, item.Content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(staged, at, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(staged, filepath.Join(f.dir, item.Name)); err != nil {
		t.Fatal(err)
	}
}

// apache/camel#24747: an I/O error while a lock was taken counted as having it, and the
// file was read without one. A node that cannot lock its data directory ends.
func TestWhereTheLockCannotBeTakenNothingIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCampaign(t, w, "items", "file", "file")
	c.put()
	c.settled()
	c.node.kill()
	lock := filepath.Join(c.node.data(), "lock")
	if err := os.Rename(lock, lock+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	c.put()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), nodeEnv+"="+c.node.file())
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), lock) {
		t.Errorf("the node ended with %v and the words below, want an error that names %s\n%s", err, lock, out)
	}
	if v := c.verdict(); v.Lost != len(sizes) {
		t.Errorf("without its lock the node went on: %v", v)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(lock+".old", lock); err != nil {
		t.Fatal(err)
	}
	c.node.start()
	c.settled()
}

// apache/camel#4004: the connection was gone when the file was to be deleted; that was
// skipped without an error, and the file was there at the next poll.
func TestAConnectionThatIsGoneAtTheEndDoublesNothing(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"before the deletion": "MLST", "after the deletion": "DELE"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			const cuts = 5
			cut := &cutter{command: command, left: cuts, read: map[string]bool{}}
			w.serveFTP(t, ftpd.Config{Root: w.root, Log: cut.event})
			cut.serve(w.ftp)
			c := newCampaign(t, w, "items", "ftp", "file")
			c.put()
			c.settled()
			c.epilogue()
			if left := cut.remaining(); left > 0 {
				t.Errorf("the connection was cut %d times, want %d", cuts-left, cuts)
			}
		})
	}
}

// The same, with a server that refuses to delete for a while: an error that no new
// connection mends.
func TestADeletionThatIsRefusedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const refusals = 8
	fs := &undeletable{Fs: afero.NewBasePathFs(afero.NewOsFs(), w.root)}
	fs.left.Store(refusals)
	w.serveFTP(t, ftpd.Config{Fs: fs})
	c := newCampaign(t, w, "items", "ftp", "file")
	c.put()
	c.settled()
	c.epilogue()
	if left := fs.left.Load(); left > 0 {
		t.Errorf("%d deletions were refused, want %d", refusals-left, refusals)
	}
}

// undeletable is a file system that refuses some deletions.
type undeletable struct {
	afero.Fs
	left atomic.Int64
}

// Remove implements afero.Fs.
func (u *undeletable) Remove(name string) error {
	if u.left.Add(-1) >= 0 {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrPermission}
	}
	return u.Fs.Remove(name)
}

// cutter cuts all sessions of an FTP server when a client that has read a file comes
// back to it with the command.
type cutter struct {
	command string

	mu     sync.Mutex
	server *ftpd.Server
	left   int
	read   map[string]bool // files that were read
}

func (c *cutter) serve(s *ftpd.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = s
}

func (c *cutter) event(e ftpd.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.Command == "RETR" && e.Err == nil:
		c.read[e.Path] = true
	case e.Command == c.command && c.read[e.Path] && c.left > 0:
		c.left--
		c.server.DropSessions()
	}
}

func (c *cutter) remaining() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// spring-projects/spring-integration#2191: files were marked as seen before the work
// was done; a crash lost them.
func TestWhatWasOnlySeenIsTakenAgainAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCampaign(t, w, "items", "ftp", "queue")
	// Every item of the batch has come so far, and none further than the step.
	for _, step := range []exchange.Step{exchange.StepOffered, exchange.StepTaken, exchange.StepIntended} {
		c.crash(step, len(sizes))
	}
	c.epilogue()
}

// apache/nifi#3743: a change of the primary node cleared the state of listings, and the
// new one read the whole directory again.
func TestANewOwnerKnowsWhatWasDone(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs three nodes")
	}
	w := newWorld(t)
	from := w.folder(t, "listed")
	c := &campaign{t: t, from: from, to: w.destination(t, "file", "listed")}
	nodes := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	endpoint := `{directory: "` + from.dir + `", stable_for: 0s, after_delivery: keep}`
	if err := nodes.Deploy(ctx, "listed.yaml", plan("file", endpoint, polled("file"), "file", c.to.endpoint(), "")); err != nil {
		t.Fatal(err)
	}
	s, err := nodes.WaitStatus(ctx, "the hosts run", cluster.Running(sourceHost, sinkHost))
	if err != nil {
		t.Fatal(err)
	}
	c.all = cluster.Files(1, 60, 64<<10)
	from.put(t, c.all...)
	c.arrived()

	owner := cluster.Owner(s, sourceHost)
	next := slices.IndexFunc(nodes.Nodes, func(n *cluster.Node) bool { return n.Name != owner })
	if _, err := nodes.Move(ctx, sourceHost, nodes.Nodes[next].Name); err != nil {
		t.Fatal(err)
	}
	c.more()
	if s, err = nodes.WaitStatus(ctx, "the host has moved", cluster.OwnedBy(sourceHost, owner)); err != nil {
		t.Fatal(err)
	}
	if err := nodes.Node(cluster.Owner(s, sourceHost)).Kill(); err != nil {
		t.Fatal(err)
	}
	c.more()
}

// more puts one item more in, and sees that it alone arrives.
func (c *campaign) more() {
	c.t.Helper()
	one := cluster.Item{Name: "late-" + time.Now().Format("150405.000000"), Content: []byte(time.Now().String())}
	c.all = append(c.all, one)
	c.from.put(c.t, one)
	c.arrived()
}

// startCluster starts nodes from the built binaries.
func startCluster(t *testing.T, nodes int) *cluster.Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl-crash-")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(filepath.Dir(adapters(t)), "fairlead")
	c, err := cluster.Start(cluster.Config{Binary: binary, Adapters: adapters(t), Dir: dir, Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("--- %s\n%s", n.Name, tail(n.LogFile(), 40))
			}
		}
		os.RemoveAll(dir)
	})
	return c
}

// jcustenborder/kafka-connect-spooldir#72: a task that was stopped left its marker
// behind, and the file was skipped for ever. Here it is the temporary file of an owner
// that died in the middle of an upload.
func TestWhatADeadOwnerLeftBehindIsInNobodysWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stall := newStall(afero.NewBasePathFs(afero.NewOsFs(), w.root))
	w.serveFTP(t, ftpd.Config{Fs: stall})
	c := newCampaign(t, w, "items", "queue", "ftp")
	out := c.to.(*folder)
	c.put()
	select {
	case <-stall.reached:
	case <-time.After(settledWithin):
		t.Fatal("no upload has begun")
	}
	c.node.kill()
	close(stall.release)
	if len(out.temporary(t)) == 0 {
		t.Fatal("the dead node has left no temporary file behind: nothing is tested")
	}
	c.node.start()
	c.settled()
	if left := out.temporary(t); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// temporary are the names of files that are not whole.
func (f *folder) temporary(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".fairlead-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// stall is a file system in which the first upload of the largest item stops in the
// middle.
type stall struct {
	afero.Fs
	once             sync.Once
	reached, release chan struct{}
}

func newStall(fs afero.Fs) *stall {
	return &stall{Fs: fs, reached: make(chan struct{}), release: make(chan struct{})}
}

// OpenFile implements afero.Fs.
func (s *stall) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	f, err := s.Fs.OpenFile(name, flag, perm)
	if err != nil || flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return f, err
	}
	return &stalled{File: f, s: s}, nil
}

type stalled struct {
	afero.File
	s       *stall
	written int
}

// stallAfter is less than the largest item of a batch and more than the others.
const stallAfter = 100 << 10

func (f *stalled) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.written += n; f.written > stallAfter {
		f.s.once.Do(func() {
			close(f.s.reached)
			<-f.s.release // bounded: the test closes it, or ends with its server
		})
	}
	return n, err
}
