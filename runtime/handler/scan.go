package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// probesAtOnce bounds how many binaries Scan runs at the same time.
const probesAtOnce = 2

// fileID tells versions of a file apart without reading it.
type fileID struct {
	path  string
	size  int64
	mtime int64
}

// probed remembers what binaries said of themselves, for as long as the process
// lives: a node scans often, and a probe costs a process.
var probed = struct {
	sync.Mutex
	m map[fileID]Binary
}{m: map[fileID]Binary{}}

// Scan finds the adapters in dirs and asks each one what it is, in a process that
// is started and stopped for that. Of two with the same name the one in the earlier
// directory counts. What is wrong with a file stands in its Err; a directory that
// cannot be read is logged. The result is sorted by name. Files that have the same
// path, size and time as at an earlier successful probe are not run again.
//
// It takes up to StartTimeout twice for a silent binary, and ends early with ctx.
func Scan(ctx context.Context, dirs []string, log *slog.Logger) []Binary {
	log = orDiscard(log)
	found := list(dirs, log)
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for i := range found {
		g.Go(func() error {
			found[i] = probe(ctx, found[i].Name, found[i].Path, log)
			return nil
		})
	}
	_ = g.Wait() // every error is in its Binary
	return found
}

// list returns the candidates: names and paths.
func list(dirs []string, log *slog.Logger) []Binary {
	byName := map[string]Binary{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			log.Warn("cannot read adapter directory", "dir", dir, "error", err)
			continue
		}
		for _, e := range entries {
			name, ok := adapterName(e)
			if !ok {
				continue
			}
			path := filepath.Join(dir, e.Name())
			if abs, err := filepath.Abs(path); err == nil {
				path = abs // it is not started in our working directory
			}
			if first, taken := byName[name]; taken {
				log.Warn("adapter is there twice: the first one counts",
					"adapter", name, "used", first.Path, "ignored", path)
				continue
			}
			byName[name] = Binary{Name: name, Path: path}
		}
	}
	found := make([]Binary, 0, len(byName))
	for _, b := range byName {
		found = append(found, b)
	}
	slices.SortFunc(found, func(a, b Binary) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

func adapterName(e fs.DirEntry) (string, bool) {
	name, ok := strings.CutPrefix(e.Name(), Prefix)
	name = strings.TrimSuffix(name, ".exe")
	return name, ok && name != "" && !e.IsDir()
}

// probe returns what the binary says of itself.
func probe(ctx context.Context, name, path string, log *slog.Logger) Binary {
	b := Binary{Name: name, Path: path}
	f, info, err := openBinary(name, path)
	if err != nil {
		b.Err = err
		return b
	}
	defer f.Close()
	id := fileID{path, info.Size(), info.ModTime().UnixNano()}
	probed.Lock()
	known, ok := probed.m[id]
	probed.Unlock()
	if ok {
		return known
	}
	if info.Mode().Perm()&0o022 != 0 {
		log.Warn("adapter binary is writable by others than its owner: chmod go-w",
			"adapter", name, "path", path, "mode", info.Mode().Perm().String())
	}
	if b.SHA256, b.Err = checksum(f); b.Err != nil {
		return b
	}
	if b.Err = b.fill(ctx, log); b.Err != nil {
		return b
	}
	probed.Lock()
	probed.m[id] = b
	probed.Unlock()
	return b
}

// fill runs the binary and asks.
func (b *Binary) fill(ctx context.Context, log *slog.Logger) error {
	i, err := launch(ctx, b.launchSpec(log))
	if err != nil {
		return err
	}
	defer i.close(exitWithin)
	d, err := i.describe(ctx)
	if err != nil {
		return err
	}
	if err := checkDescription(b.Name, b.Path, d); err != nil {
		return err
	}
	b.Version, b.Summary = d.GetVersion(), d.GetSummary()
	b.Receive, b.Send = side(d.GetReceive()), side(d.GetSend())
	return nil
}

func (b *Binary) launchSpec(log *slog.Logger) launchSpec {
	return launchSpec{
		name: b.Name, path: b.Path, sha256: b.SHA256,
		log: log.With("adapter", b.Name), timeout: StartTimeout, kill: KillWithin,
	}
}

func checkDescription(name, path string, d *adapterpb.Description) error {
	switch {
	case d.GetName() != name:
		return fmt.Errorf("adapter %s: %s calls itself %q: rename the file to %s%s",
			name, path, d.GetName(), Prefix, d.GetName())
	case d.GetVersion() == "":
		return fmt.Errorf("adapter %s: %s has no version", name, path)
	case d.GetReceive() == nil && d.GetSend() == nil:
		return fmt.Errorf("adapter %s: %s can neither receive nor send", name, path)
	}
	for _, s := range []*adapterpb.Side{d.GetReceive(), d.GetSend()} {
		if s != nil && !json.Valid(s.GetSchema()) {
			return fmt.Errorf("adapter %s: %s describes its properties with a schema that is not JSON", name, path)
		}
	}
	return nil
}

func side(s *adapterpb.Side) *Side {
	if s == nil {
		return nil
	}
	return &Side{Schema: s.GetSchema(), Exclusive: s.GetExclusive(), Probes: s.GetProbes()}
}

// Problem is what an adapter finds wrong with an endpoint's properties.
type Problem struct {
	// Property is the property's name, empty for the endpoint as a whole.
	Property string
	Problem  string
}

// Check lets the adapter validate the properties (JSON) of one endpoint as it would
// when configured, without side effects, in a process of its own. No problems and
// no error means that they are right.
func Check(ctx context.Context, b Binary, receive bool, properties []byte) ([]Problem, error) {
	if b.Err != nil {
		return nil, b.Err
	}
	i, err := launch(ctx, b.launchSpec(orDiscard(nil)))
	if err != nil {
		return nil, err
	}
	defer i.close(exitWithin)
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	r, err := i.adapter.Check(ctx, &adapterpb.CheckRequest{Receive: receive, Properties: properties})
	if err != nil {
		return nil, i.callError(ctx, "check properties", err)
	}
	var problems []Problem
	for _, p := range r.GetProblems() {
		problems = append(problems, Problem{Property: p.GetProperty(), Problem: p.GetProblem()})
	}
	return problems, nil
}

// Examine has the adapter open the endpoint, whose references are resolved, look at what
// is at the other side, and close it, in a process of its own that ends with ctx. It
// changes nothing there, but for a sink that is allowed a write test. most is how many names are wanted of those that would be taken,
// and of those that would not, for each reason.
func Examine(ctx context.Context, b Binary, endpoint *adapterpb.Endpoint, most int, writeTest bool) (*adapterpb.Examination, error) {
	if b.Err != nil {
		return nil, b.Err
	}
	i, err := launch(ctx, b.launchSpec(orDiscard(nil)))
	if err != nil {
		return nil, err
	}
	defer i.close(exitWithin)
	found, err := i.adapter.Examine(ctx, &adapterpb.ExamineRequest{Endpoint: endpoint, Most: int32(min(most, 1000)), WriteTest: writeTest})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("adapter %s was built with an SDK that cannot look at an endpoint; build it anew", b.Name)
	}
	if err != nil {
		return nil, i.callError(ctx, "examine", err)
	}
	return found, nil
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
