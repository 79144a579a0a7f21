package sdk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// The adapter of the package's example does what an adapter has to.
func TestExampleSource(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter:      outbox,
		NameProperty: "file.name",
		New: func(t testing.TB) adaptertest.SourceFixture {
			dir := t.TempDir()
			away := dir + "-away"
			put := func(t testing.TB, name string, content []byte) {
				must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			}
			return adaptertest.SourceFixture{
				Properties: map[string]any{"directory": dir, "stable_for": "20ms"},
				Put:        put,
				Replace:    put,
				Remaining:  func(t testing.TB) []string { return fileNames(t, dir) },
				Down:       func(t testing.TB) { must(t, os.Rename(dir, away)) },
				Up:         func(t testing.TB) { must(t, os.Rename(away, dir)) },
			}
		},
	})
}

func TestExampleSink(t *testing.T) {
	adaptertest.Sink(t, adaptertest.SinkCase{
		Adapter: outbox, Deduplicates: true, Probes: true,
		New: func(t testing.TB) adaptertest.SinkFixture {
			dir := t.TempDir()
			away := dir + "-away"
			return adaptertest.SinkFixture{
				Properties: map[string]any{"directory": dir},
				Received: func(t testing.TB) (all []adaptertest.Received) {
					for _, name := range fileNames(t, dir) {
						content, err := os.ReadFile(filepath.Join(dir, name))
						must(t, err)
						all = append(all, adaptertest.Received{Name: name, Content: content})
					}
					return all
				},
				Down: func(t testing.TB) { must(t, os.Rename(dir, away)) },
				Up:   func(t testing.TB) { must(t, os.Rename(away, dir)) },
			}
		},
	})
}

// A file that grows is left alone until it does not any more.
func TestGrowingFileIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "growing")
	h := adaptertest.Start(t, outbox, adaptertest.Endpoint{
		Name: "in", Receive: true, PollEvery: 10 * time.Millisecond,
		Properties: map[string]any{"directory": dir, "stable_for": "300ms"},
	})
	h.List("in") // what was there at the start is another story
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for range 10 {
		_, err := f.WriteString("more")
		must(t, err)
		if items := h.List("in"); len(items) > 0 {
			t.Fatalf("a growing file was offered: %+v", items)
		}
	}
	must(t, f.Close())
	it := h.WaitItems("in", 1)[0]
	c, err := h.Take("in", it.Key)
	must(t, err)
	if got := len(c.Parts[0].Content); got != 40 {
		t.Errorf("got %d bytes, want 40", got)
	}
}

func fileNames(t testing.TB, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		if f.Type() == fs.FileMode(0) {
			names = append(names, f.Name())
		}
	}
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
