package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// matrixServer is one process of a real server. All that the client may choose is tried
// on it.
type matrixServer struct {
	name     string
	settings []string
	mlsd     bool // it has MLSD
	reuse    bool // it wants the TLS session resumed on data connections
}

// String has no "=": the name is part of a path that the scripts take apart there.
func (s matrixServer) String() string {
	text := s.name
	if len(s.settings) > 0 {
		text += " TLS"
	}
	if s.reuse {
		text += " resumed"
	}
	return text
}

func matrixServers() []matrixServer {
	var all []matrixServer
	for _, name := range []string{"vsftpd", "proftpd", "pureftpd"} {
		mlsd := name != "vsftpd"
		all = append(all, matrixServer{name: name, mlsd: mlsd},
			matrixServer{name: name, mlsd: mlsd, settings: []string{"FTPS=explicit", "TLS_FORCE=1"}})
		if name != "pureftpd" { // which has no such demand
			all = append(all, matrixServer{name: name, mlsd: mlsd, reuse: true, settings: []string{"FTPS=explicit", "TLS_FORCE=1", "TLS_REUSE=1"}})
		}
	}
	return all
}

// matrixCell is what the client chooses.
type matrixCell struct {
	tls     string // version, or "" without TLS
	listing string
	epsv    bool
}

func (c matrixCell) String() string {
	return fmt.Sprintf("TLS %s, listing %s, EPSV %t", cmp.Or(c.tls, "none"), c.listing, c.epsv)
}

func matrixCells(encrypted bool) []matrixCell {
	versions := []string{""}
	if encrypted {
		versions = []string{"1.2", "1.3"}
	}
	var cells []matrixCell
	for _, version := range versions {
		for _, listing := range []string{listingAuto, listingLIST, listingNLST} {
			for _, epsv := range []bool{true, false} {
				cells = append(cells, matrixCell{tls: version, listing: listing, epsv: epsv})
			}
		}
	}
	return cells
}

// Every server takes part in every way that a partner may demand, and the trace proves
// that the cell was what its name says.
func TestInteropMatrix(t *testing.T) {
	serverScripts(t)
	for _, server := range matrixServers() {
		t.Run(server.String(), func(t *testing.T) {
			s := startReal(t, server.name, server.settings...)
			for i, cell := range matrixCells(s.props["tls"] != nil) {
				t.Run(cell.String(), func(t *testing.T) {
					directory := s.folder(t, fmt.Sprintf("cell-%d", i))
					props := with(s.props, "directory", directory, "listing", cell.listing, "disable_epsv", !cell.epsv, "trace", true)
					if cell.tls != "" {
						props["tls13"] = cell.tls == "1.3"
					}
					log := roundTrip(t, s, directory, props)
					checkCell(t, server, cell, log)
				})
			}
		})
	}
}

// folder makes a directory that the server's user may write to.
func (s *realServer) folder(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(s.Dir, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return name
}

func (s *realServer) below(name string) *realServer {
	return &realServer{Dir: filepath.Join(s.Dir, name), props: s.props}
}

func matrixFiles() map[string][]byte {
	return map[string][]byte{
		"empty.edi": {}, "plain.edi": noise(1, 100), "with  two spaces.edi": noise(2, 2000),
		"größe €.edi": noise(3, 30_000), "large.bin": noise(4, 3<<20),
	}
}

// roundTrip lists an empty directory, receives five files, sends three back and receives
// those. It returns the trace.
func roundTrip(t *testing.T, s *realServer, directory string, props map[string]any) *logText {
	t.Helper()
	there := s.below(directory)
	src, log := tracedSource(t, props)
	if got := list(t, src); len(got) != 0 {
		t.Errorf("the empty directory lists %q", itemNames(got))
	}
	want := matrixFiles()
	for name, content := range want {
		there.write(t, name, content)
	}
	receiveAll(t, src, want)

	k, sent := tracedSink(t, with(props, "name", "{{ftp.name}}"))
	back := map[string][]byte{}
	for _, name := range []string{"empty.edi", "with  two spaces.edi", "large.bin"} {
		back[name] = want[name]
	}
	sendAll(t, k, there, back)
	receiveAll(t, src, back)
	if left := there.names(t); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
	_, _ = log.Write([]byte(sent.String()))
	return log
}

func receiveAll(t *testing.T, src *source, want map[string][]byte) {
	t.Helper()
	items := list(t, src)
	if len(items) != len(want) {
		t.Errorf("listed are %q, want %d files", itemNames(items), len(want))
	}
	var wg sync.WaitGroup
	for name, content := range want {
		wg.Go(func() {
			item, listed := items[name]
			if !listed {
				t.Errorf("%q is not listed", name)
				return
			}
			got, err := readContext(testContext(t), src, item)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("read %q: %d bytes, %v; want %d", name, len(got), err, len(content))
			}
			if err := src.Settle(testContext(t), item); err != nil {
				t.Errorf("settle %q: %v", name, err)
			}
		})
	}
	wg.Wait()
}

func sendAll(t *testing.T, k *sink, there *realServer, contents map[string][]byte) {
	t.Helper()
	var wg sync.WaitGroup
	for name, content := range contents {
		wg.Go(func() {
			m := newMessage(t, content, "ftp.name", name)
			if err := k.Send(testContext(t), m); err != nil {
				t.Errorf("send %q: %v", name, err)
				return
			}
			if got, err := os.ReadFile(filepath.Join(there.Dir, name)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d of %d bytes of %q arrived, %v", len(got), len(content), name, err)
			}
			if a, err := k.Probe(testContext(t), m); err != nil || a != sdk.Arrived {
				t.Errorf("probe of %q says %s, %v", name, arrivalName(a), err)
			}
		})
	}
	wg.Wait()
	if names := there.names(t); len(names) != len(contents) {
		t.Errorf("after sending there are %q, want %d files", names, len(contents))
	}
}

// checkCell finds in the trace what was agreed upon.
func checkCell(t *testing.T, server matrixServer, cell matrixCell, log *logText) {
	t.Helper()
	listings := map[string]bool{
		"sent=MLSD": cell.listing == listingAuto && server.mlsd,
		"sent=LIST": cell.listing == listingLIST || cell.listing == listingAuto && !server.mlsd,
		"sent=NLST": cell.listing == listingNLST,
		"sent=EPSV": cell.epsv, "sent=PASV": !cell.epsv,
		`tls=none`:      cell.tls == "",
		`tls="TLS 1.2"`: cell.tls == "1.2", `tls="TLS 1.3"`: cell.tls == "1.3",
	}
	for part, want := range listings {
		// An empty LIST is followed by an NLST on purpose.
		if got := log.count(part) > 0; got != want && !(part == "sent=NLST" && listings["sent=LIST"]) {
			t.Errorf("%q in the trace: %t, want %t", part, got, want)
		}
	}
	if server.reuse && (log.count("resumed=false") > 0 || log.count("resumed=true") == 0) {
		t.Errorf("%d data connections resumed the session and %d did not", log.count("resumed=true"), log.count("resumed=false"))
	}
	if t.Failed() {
		lines := strings.Split(log.String(), "\n")
		t.Logf("the trace ends with\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// listFormats are those of LIST that the server with bad manners has, and whether the
// client library reads them: others are to be replaced by NLST, SIZE and MDTM.
var listFormats = map[string]bool{
	"unix": true, "dos": true, "dos4": true,
	"nogroup": false, "iso": false, "eplf": false, "netware": false, "vms": false, "mvs": false, "os400": false,
}

// Whatever the format of LIST: every file is received, under its name, and once.
func TestInteropListFormats(t *testing.T) {
	serverScripts(t)
	for format, known := range listFormats {
		t.Run(format, func(t *testing.T) {
			s := startReal(t, "pyftpd", "LIST="+format, "MLSD=0")
			directory := s.folder(t, "in")
			log := roundTrip(t, s, directory, with(s.props, "directory", directory, "trace", true))
			if log.count("sent=LIST") == 0 {
				t.Error("nobody asked for a LIST")
			}
			if replaced := log.count("in no known format") > 0; replaced == known {
				t.Errorf("LIST replaced by NLST: %t, want %t", replaced, !known)
			}
		})
	}
}
