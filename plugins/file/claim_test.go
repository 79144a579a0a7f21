package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// owner opens a location as its owner of an epoch does.
func owner(t testing.TB, dir string, epoch uint64, more map[string]any) *source {
	t.Helper()
	s := newSource(t, dir, more)
	env := quiet
	env.Epoch = epoch
	again, err := openSource(t.Context(), s.p, env)
	if err != nil {
		t.Fatal(err)
	}
	return again.(*source)
}

var claiming = map[string]any{"claim": true, "stable_for": "0s"}

func open(t testing.TB, s *source, item sdk.Item) *sdk.Content {
	t.Helper()
	c, err := s.Open(t.Context(), item)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAClaimedFileIsOutOfItsWritersReach(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.edi", "first")
	s := owner(t, dir, 1, claiming)
	item := one(t, s)
	c := open(t, s, item)
	write(t, dir, "a.edi", "second") // makes a new file
	if got, err := consume(t, c, nil); got != "first" || err != nil {
		t.Fatalf("read %q, %v; want the file that was claimed", got, err)
	}
	if err := s.Settle(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	next := one(t, s)
	if next.Key == item.Key {
		t.Error("the new file has the key of the old one")
	}
	if got, err := consume(t, open(t, s, next), nil); got != "second" || err != nil {
		t.Errorf("then read %q, %v; want the new file", got, err)
	}
}

// Without the claim's epoch, what a former owner deletes late would be its successor's.
func TestASuccessorAdoptsTheClaimsOfADeadOwner(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.edi", "content")
	former := owner(t, dir, 1, claiming)
	item := one(t, former)
	if _, err := consume(t, open(t, former, item), nil); err != nil {
		t.Fatal(err)
	}

	successor := owner(t, dir, 2, claiming)
	adopted := one(t, successor)
	if adopted.Key != item.Key || adopted.Context["file.name"] != "a.edi" {
		t.Fatalf("the successor lists %+v, want the same item, %+v", adopted, item)
	}
	c := open(t, successor, adopted)
	if err := former.Settle(t.Context(), item); err == nil {
		t.Error("the former owner has settled what its successor reads")
	}
	if items := list(t, former); len(items) != 0 {
		t.Errorf("the former owner lists %+v, which is its successor's", items)
	}
	if got, err := consume(t, c, nil); got != "content" || err != nil {
		t.Fatalf("the successor reads %q, %v", got, err)
	}
	if err := successor.Settle(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// What an earlier owner delivered is settled from a listing, without being read.
func TestASuccessorSettlesWhatItHasNotClaimed(t *testing.T) {
	for name, more := range map[string]map[string]any{"it claims": claiming, "it claims no more": {"stable_for": "0s"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a.edi", "content")
			former := owner(t, dir, 1, claiming)
			if _, err := consume(t, open(t, former, one(t, former)), nil); err != nil {
				t.Fatal(err)
			}
			successor := owner(t, dir, 2, more)
			item := one(t, successor)
			if item.Context["file.name"] != "a.edi" {
				t.Fatalf("listed %+v", item)
			}
			if err := successor.Settle(t.Context(), item); err != nil {
				t.Fatal(err)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
		})
	}
}

func TestOfTwoWhoClaimOneFileOneGetsIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.edi", "content")
	here, there := owner(t, dir, 1, claiming), newSource(t, dir, claiming)
	there.claims = files.NewClaims(sdk.Env{Cluster: "another"})
	item, same := one(t, here), one(t, there)
	open(t, here, item).Close()
	if _, err := there.Open(t.Context(), same); !sdk.IsGone(err) {
		t.Errorf("the other cluster opens it: %v, want that it is gone", err)
	}
	if items := list(t, there); len(items) > 0 {
		t.Errorf("the other cluster lists %+v", items)
	}
}

func TestAFileThatChangedBeforeItsClaimIsNotTakenForTheOneThatWasListed(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "a.edi", "short")
	s := owner(t, dir, 1, claiming)
	item := one(t, s)
	write(t, dir, "a.edi", "longer than it was")
	touch(t, path, time.Now().Add(time.Second))
	if _, err := s.Open(t.Context(), item); !sdk.IsGone(err) {
		t.Fatalf("open: %v, want that the listed version is gone", err)
	}
	next := one(t, s)
	if got, err := consume(t, open(t, s, next), nil); got != "longer than it was" || err != nil {
		t.Errorf("then read %q, %v", got, err)
	}
	if err := s.Settle(t.Context(), next); err != nil {
		t.Error(err)
	}
}

func TestSubdirectoriesAreReadAndFilesKeepTheirPlaceWhenMoved(t *testing.T) {
	dir := t.TempDir()
	for _, below := range []string{"de/x", "fr", ".hidden", "old", "done/de"} {
		if err := os.MkdirAll(filepath.Join(dir, below), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, below), "a.edi", below)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	for depth, want := range []string{"", "de/..., fr", "de/x, fr"} {
		s := owner(t, dir, 1, map[string]any{
			"stable_for": "0s", "claim": true, "max_depth": depth, "exclude_directories": []string{"ol?"}[:min(depth, 1)],
			"after_delivery": "move", "move_to": "done", "sort": "name",
		})
		var got []string
		items := list(t, s)
		for _, item := range items {
			got = append(got, filepath.Dir(item.Context["file.path"]))
		}
		if depth == 1 {
			want = "fr" // de has no file of its own
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("depth %d: listed those of %q, want %q", depth, got, want)
		}
		if depth < 2 {
			continue
		}
		for _, item := range items {
			if text, err := consume(t, open(t, s, item), nil); err != nil || text != filepath.Dir(item.Context["file.path"]) {
				t.Errorf("%s: read %q, %v", item.Key, text, err)
			}
			if err := s.Settle(t.Context(), item); err != nil {
				t.Error(err)
			}
		}
		if got := read(t, filepath.Join(dir, "done/de/x/a.edi")); got != "de/x" {
			t.Errorf("moved %q", got)
		}
	}
}

func TestAListingThatIsBrokenOffFails(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.edi", "x")
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := owner(t, dir, 1, map[string]any{"stable_for": "0s", "max_depth": 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.List(ctx); err == nil {
		t.Error("a listing that was broken off is taken for a complete one")
	}
}

func TestDoneFilesReleaseAndGoWithTheirs(t *testing.T) {
	dir := t.TempDir()
	s := owner(t, dir, 1, map[string]any{"stable_for": "0s", "done_file": "{{name}}.done"})
	write(t, dir, "a.edi", "x")
	if items := list(t, s); len(items) > 0 {
		t.Fatalf("listed %+v before it was released", items)
	}
	write(t, dir, "a.edi.done", "")
	item := one(t, s)
	if _, err := consume(t, open(t, s, item), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestRetakeNeverKnowsAFileByItsName(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "a.edi", "x")
	for retake, same := range map[string]bool{"never": true, "changed": false} {
		s := owner(t, dir, 1, map[string]any{"after_delivery": "keep", "retake": retake})
		before := one(t, s)
		touch(t, path, time.Now().Add(time.Hour))
		after := one(t, s)
		if (before.Key == after.Key) != same {
			t.Errorf("retake: %s: key %q, and when the file has changed %q", retake, before.Key, after.Key)
		}
		if same && before.Version == after.Version {
			t.Error("a file that grows is not told from one that is stable")
		}
	}
}
