package handler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Prefix begins the name of every adapter binary; the adapter's name follows.
const Prefix = "fairlead-adapter-"

// Binary is one adapter as Scan found it.
type Binary struct {
	// Path of the file.
	Path string
	// SHA256 of the file, in lower case hex. Start refuses any other content.
	SHA256 string
	// Name is the part of the file's name after Prefix; a binary that calls itself
	// something else has Err set.
	Name    string
	Version string
	// Summary is one sentence about the adapter.
	Summary string
	// Receive and Send are nil for what the adapter cannot do.
	Receive, Send *Side
	// Err says why the file cannot be used; Version, Receive and Send are then
	// unset, and SHA256 may be.
	Err error
}

// Side is what endpoints of one direction take and can.
type Side struct {
	// Schema is the JSON Schema of an endpoint's properties.
	Schema []byte
	// Exclusive, receive only: the host must be clustered.
	Exclusive bool
	// Probes, send only: the sink can tell what has arrived.
	Probes bool
}

// Lookup returns the usable binary of the adapter called name, or an error that
// says what to do: it is not in dirs (ErrNotFound), or it cannot be used.
func Lookup(found []Binary, dirs []string, name string) (Binary, error) {
	for _, b := range found {
		if b.Name != name {
			continue
		}
		return b, b.Err
	}
	return Binary{}, notFound(name, dirs)
}

func notFound(name string, dirs []string) error {
	where := strings.Join(dirs, ", ")
	if where == "" {
		where = "node.adapter_dirs, which is empty"
	}
	return because(ErrNotFound, "adapter %s: no %s%s in %s: put it there or add its folder to node.adapter_dirs",
		name, Prefix, name, where)
}

// pin checks that the binary is one to start, and makes its path absolute.
func (b *Binary) pin() error {
	switch {
	case b.Err != nil:
		return b.Err
	case b.Path == "" || b.SHA256 == "":
		return errors.New("handler: the binary has no path or no checksum: take it from Scan")
	}
	abs, err := filepath.Abs(b.Path)
	if err != nil {
		return fmt.Errorf("adapter %s: %w", b.Name, err)
	}
	b.Path = abs
	return nil
}

// openBinary opens the file for checking and executing. The caller closes it.
func openBinary(name, path string) (*os.File, fs.FileInfo, error) {
	// Looked at before it is opened: opening a FIFO would wait for a writer.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("adapter %s: %s is not a regular file", name, path)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, notFound(name, []string{filepath.Dir(path)})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	info, err = f.Stat()
	if err == nil && !executable(info) {
		err = fmt.Errorf("%s is not executable (mode %04o): chmod +x %s", path, info.Mode().Perm(), path)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	return f, info, nil
}

// checksum reads f from its beginning.
func checksum(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// verify compares the content of f with the pinned checksum.
func verify(name string, f *os.File, want string) error {
	got, err := checksum(f)
	if err != nil {
		return fmt.Errorf("adapter %s: %w", name, err)
	}
	if got == want {
		return nil
	}
	return because(ErrChecksum, "adapter %s: %s has checksum %s, not %s as when it was found: "+
		"restore the file, or restart the node to take the new one", name, f.Name(), short(got), short(want))
}

// short is enough of a checksum to compare by eye.
func short(sum string) string {
	if len(sum) > 12 {
		return sum[:12]
	}
	if sum == "" {
		return "(none)"
	}
	return sum
}
