package handler

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirectoriesOfKilledRuntimesAreRemovedAndOthersStay(t *testing.T) {
	base := shortDir(t)
	killed, err := newSocketDir(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(killed.path, "socket"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killed.owner.Close() // as the kernel does
	living, err := newSocketDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer living.remove()
	foreign := filepath.Join(base, socketDirPrefix+"of-another-program")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	third, err := newSocketDir(base)
	if err != nil {
		t.Fatal(err)
	}
	third.remove()

	for path, want := range map[string]bool{killed.path: false, living.path: true, foreign: true, third.path: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
}
