package ftpd

import (
	"os"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// sessionFs is the file system as one session sees it: it notes what is done.
type sessionFs struct {
	afero.Fs
	client  ftpserver.ClientContext
	journal *journal
}

var (
	_ ftpserver.ClientDriverExtentionFileTransfer = (*sessionFs)(nil)
	_ ftpserver.ClientDriverExtensionFileList     = (*sessionFs)(nil)
)

func (f *sessionFs) note(path, to string, n int64, err error) {
	f.journal.add(Event{
		Session: f.client.ID(), Remote: f.client.RemoteAddr().String(),
		Command: f.client.GetLastCommand(), Path: path, To: to, Bytes: n, Err: err,
	})
}

// Stat serves CWD, SIZE, MDTM, MLST, RNFR and the beginning of listings.
func (f *sessionFs) Stat(name string) (os.FileInfo, error) {
	info, err := f.Fs.Stat(name)
	switch f.client.GetLastCommand() {
	case "CWD", "SIZE", "MDTM", "MLST", "RNFR":
		f.note(name, "", 0, err)
	}
	return info, err
}

// ReadDir serves LIST, NLST and MLSD.
func (f *sessionFs) ReadDir(name string) ([]os.FileInfo, error) {
	infos, err := afero.ReadDir(f.Fs, name)
	f.note(name, "", 0, err)
	return infos, err
}

// Remove serves DELE.
func (f *sessionFs) Remove(name string) error {
	err := f.Fs.Remove(name)
	f.note(name, "", 0, err)
	return err
}

// Rename serves RNTO.
func (f *sessionFs) Rename(from, to string) error {
	err := f.Fs.Rename(from, to)
	f.note(from, to, 0, err)
	return err
}

// Chtimes serves MFMT.
func (f *sessionFs) Chtimes(name string, atime, mtime time.Time) error {
	err := f.Fs.Chtimes(name, atime, mtime)
	f.note(name, "", 0, err)
	return err
}

// GetHandle serves RETR, STOR and APPE.
func (f *sessionFs) GetHandle(name string, flags int, _ int64) (ftpserver.FileTransfer, error) {
	file, err := f.Fs.OpenFile(name, flags, 0o644)
	if err != nil {
		f.note(name, "", 0, err)
		return nil, err
	}
	return &transfer{File: file, fs: f, name: name, command: f.client.GetLastCommand()}, nil
}

// transfer counts the bytes of one RETR, STOR or APPE.
type transfer struct {
	afero.File
	fs            *sessionFs
	name, command string
	n             int64
	err           error
}

var _ ftpserver.FileTransferError = (*transfer)(nil)

func (t *transfer) Read(p []byte) (int, error) {
	n, err := t.File.Read(p)
	t.n += int64(n)
	return n, err
}

func (t *transfer) Write(p []byte) (int, error) {
	n, err := t.File.Write(p)
	t.n += int64(n)
	return n, err
}

// TransferError is told of an interrupted transfer before Close.
func (t *transfer) TransferError(err error) { t.err = err }

func (t *transfer) Close() error {
	err := t.File.Close()
	if t.err == nil {
		t.err = err
	}
	t.fs.journal.add(Event{
		Session: t.fs.client.ID(), Remote: t.fs.client.RemoteAddr().String(),
		Command: t.command, Path: t.name, Bytes: t.n, Err: t.err,
	})
	return err
}
