package sdk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// A full disk suspended the items that happened to be read: an error of the spool is
// the node's, an error of the source is the item's.
func TestAnErrorOfTheSpoolIsNotTheItems(t *testing.T) {
	away := &spooler{dir: filepath.Join(t.TempDir(), "missing")}
	if _, _, err := away.spool(0, strings.NewReader("x")); !IsDisconnected(err) {
		t.Errorf("a spool that cannot be written to: %v; want it to back off the endpoint", err)
	}
	broken := &spooler{dir: t.TempDir()}
	if _, _, err := broken.spool(0, iotest.ErrReader(errors.New("reset"))); err == nil || IsDisconnected(err) {
		t.Errorf("a source that cannot be read: %v; want an error of the item", err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	if _, err := io.Copy(spoolFile{full}, strings.NewReader("x")); !IsDisconnected(err) {
		t.Errorf("a full disk: %v; want it to back off the endpoint", err)
	}
}
