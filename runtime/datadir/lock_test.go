package datadir

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string) *Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := Open(ctx, dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// attempt tries once.
func attempt(dir string) (*Lock, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return Open(ctx, dir)
}

func TestSecondLockWaitsForTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := open(t, dir)
	var held *HeldError
	if l, err := attempt(dir); !errors.As(err, &held) || !errors.Is(err, context.Canceled) {
		t.Fatalf("a second lock: got %v, %v, want it held until the context ends", l, err)
	}
	if !strings.Contains(held.Error(), filepath.Join(dir, "lock")) || !strings.Contains(held.Error(), "node.data_dir") {
		t.Errorf("%q names neither the file nor the setting to change", held.Error())
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	open(t, dir)
}

func TestLockOfADeletedFileIsAnother(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	second := open(t, dir) // the old holder lives: nothing may be claimed of it
	if first.ID() != "" && first.ID() == second.ID() {
		t.Error("two files that are both open have the same ID")
	}
	if same, err := leadsTo(filepath.Join(dir, "lock"), first.File()); same || err != nil {
		t.Errorf("the path leads to the deleted file: %v, %v", same, err)
	}
	if same, err := leadsTo(filepath.Join(dir, "lock"), second.File()); !same || err != nil {
		t.Errorf("the path does not lead to the new file: %v, %v", same, err)
	}
}

func TestWaitIsExplainedWhileItLasts(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		_, err := Open(ctx, dir, WithLog(slog.New(slog.NewTextHandler(&log, nil))))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
		if n := strings.Count(log.String(), "waiting for the data directory's lock"); n != 2 {
			t.Errorf("logged %d times in 45 s, want after 2 s and 32 s:\n%s", n, log.String())
		}
	})
}

func TestDirectoryThatCannotBeMadeIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := attempt(filepath.Join(file, "data")); err == nil || !strings.Contains(err.Error(), "node.data_dir") {
		t.Errorf("got %v, want an error that names node.data_dir", err)
	}
}
