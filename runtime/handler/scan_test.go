package handler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestScanFindsAdaptersAndSaysWhatIsWrongWithOthers(t *testing.T) {
	first, second := install(t, "good", "crash"), install(t, "good", "misnamed")
	files := map[string]os.FileMode{Prefix + "text": 0o644, "README": 0o644, Prefix + "script": 0o755}
	for name, mode := range files {
		if err := os.WriteFile(filepath.Join(first, name), []byte("#!/bin/sh\necho hi\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(first, Prefix+"folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	found := Scan(t.Context(), []string{first, "/nowhere", second}, log.logger())
	var names []string
	for _, b := range found {
		names = append(names, b.Name)
	}
	if got, want := strings.Join(names, " "), "crash good misnamed script text"; got != want {
		t.Fatalf("found %s, want %s", got, want)
	}
	wantText(t, found[0].Err.Error(), "exit status 3", "cannot find the frobnicator")
	wantText(t, found[2].Err.Error(), `calls itself "other"`)
	wantText(t, found[3].Err.Error(), `it printed "hi"`)
	wantText(t, found[4].Err.Error(), "is not executable (mode 0644)")
	wantText(t, log.String(), `"dir":"/nowhere"`, "adapter is there twice")

	good := found[1]
	if good.Err != nil || good.Version != "1.2.3" || good.Path != filepath.Join(first, Prefix+"good") ||
		len(good.SHA256) != 64 || good.Summary == "" {
		t.Errorf("good is %+v", good)
	}
	if r := good.Receive; r == nil || !r.Exclusive || string(r.Schema) != `{"type":"object"}` {
		t.Errorf("receive is %+v", r)
	}
	if s := good.Send; s == nil || !s.Probes {
		t.Errorf("send is %+v", s)
	}
}

func TestScannedBinaryStarts(t *testing.T) {
	s, _, _ := spec(t, "good")
	found := Scan(t.Context(), []string{filepath.Dir(s.Binary.Path)}, nil)
	b, err := Lookup(found, nil, "good")
	if err != nil {
		t.Fatal(err)
	}
	s.Binary = b
	start(t, s)
}

func TestScanRunsAFileAgainOnlyWhenItChanged(t *testing.T) {
	b := binary(t, "good")
	dir := filepath.Dir(b.Path)
	if got := Scan(t.Context(), []string{dir}, nil); got[0].Err != nil {
		t.Fatal(got[0].Err)
	}
	// A scan that may not run anything still knows the file.
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Scan(over, []string{dir}, nil); got[0].Err != nil || got[0].Version != "1.2.3" {
		t.Errorf("the file was not remembered: %+v", got[0])
	}
	if err := os.Remove(b.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.Path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Scan(over, []string{dir}, nil); !errors.Is(got[0].Err, context.Canceled) {
		t.Errorf("a changed file was not run: %+v", got[0])
	}
}

func TestLookupSaysWhereItLooked(t *testing.T) {
	_, err := Lookup(nil, []string{"/usr/lib/fairlead/adapters", "/opt/adapters"}, "ftp")
	want := "adapter ftp: no fairlead-adapter-ftp in /usr/lib/fairlead/adapters, /opt/adapters: " +
		"put it there or add its folder to node.adapter_dirs"
	if !errors.Is(err, ErrNotFound) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	broken := Binary{Name: "ftp", Err: errors.New("broken")}
	if _, err := Lookup([]Binary{broken}, nil, "ftp"); !errors.Is(err, broken.Err) {
		t.Errorf("got %v, want its own error", err)
	}
}

func TestCheckReportsTheAdaptersProblems(t *testing.T) {
	b := binary(t, "good")
	problems, err := Check(t.Context(), b, true, []byte(`{"colour":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) != 1 || problems[0] != (Problem{"colour", "receive=true: unknown"}) {
		t.Errorf("got %v", problems)
	}
	if problems, err := Check(t.Context(), b, false, []byte(`{}`)); err != nil || len(problems) != 0 {
		t.Errorf("got %v, %v; want neither", problems, err)
	}
	if _, err := Check(t.Context(), binary(t, "crash"), true, nil); err == nil {
		t.Error("a crashing adapter checked")
	}
}
