package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// resumeMin is how much must be there for an upload to be gone on with: less is sooner
// sent than asked for.
const resumeMin = 1 << 20

// upload stores the body under the temporary name and measures it there: some
// servers confirm an upload that broke off. It returns the checksums.
func (k *sink) upload(c *session, m *sdk.Message, at place) (*files.Sums, error) {
	if at.Second == "" {
		if err := k.checkFree(c, at, at.Name); err != nil {
			return nil, k.explainTaken(at, err)
		}
	}
	offset, err := k.resumable(c, m, at)
	if err != nil {
		return nil, err
	}
	verifier, err := k.verifier(c, offset > 0)
	if err != nil {
		return nil, err
	}
	sums, err := k.store(c, m, at, verifier, offset)
	if err != nil && offset > 0 && isRefusal(err) {
		// A server may offer REST and refuse it for uploads.
		if err := k.deleteUpload(c, at); err != nil {
			return nil, err
		}
		sums, err = k.store(c, m, at, verifier, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := k.measure(c, at.temporary, at.uploadName, m.Body().Size); err != nil {
		return nil, err
	}
	if verifier != nil {
		if err := k.verify(c, verifier, at.upload(c), sums); err != nil {
			return nil, fmt.Errorf("upload to %s: %w", at.temporary, err)
		}
	}
	return sums, k.setAttributes(c, m, at.upload(c))
}

// resumable is how much of the message an earlier attempt has uploaded, 0 if that is
// not to be gone on with.
//
// The earlier attempt may not have ended for the server, which writes what it still has
// of it: the same bytes to the same places, since both write from where they begun and
// neither appends. For that reason it must never be APPE that goes on with an upload.
func (k *sink) resumable(c *session, m *sdk.Message, at place) (int64, error) {
	if !k.props.Resume || m.Body().Size <= resumeMin {
		return 0, nil
	}
	f, err := c.size(c.absolute(at.temporary), at.uploadName)
	if err != nil || !f.exists || f.size <= resumeMin || f.size > m.Body().Size {
		return 0, err
	}
	return f.size, nil
}

// store sends the body, but for the first bytes, offset of them, which are there.
func (k *sink) store(c *session, m *sdk.Message, at place, verifier *hashCommand, offset int64) (*files.Sums, error) {
	content, err := m.Body().Open()
	if err != nil {
		return nil, found("open the message's body: %w", err)
	}
	defer content.Close()
	algorithms := []string{k.props.Checksum}
	if verifier != nil {
		algorithms = append(algorithms, verifier.sum)
	}
	sums := files.NewSums(algorithms...)
	in := io.TeeReader(content, sums)
	if _, err := io.CopyN(io.Discard, in, offset); err != nil {
		return nil, found("read the message's body: %w", err)
	}
	err = c.storeFrom(at.upload(c), in, offset)
	if _, moded := k.props.FileMode(); err != nil && moded && offset == 0 && sums.Size() == 0 && isRefusal(err) {
		// An attempt that ended right before its rename may have left a file that nobody
		// may write to any more.
		if ignoreRefusal(c.ftp.Delete(at.upload(c))) == nil {
			err = c.storeFrom(at.upload(c), in, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("upload to %s: %w", at.temporary, err)
	}
	if err := sums.Check(m.Body()); err != nil {
		return nil, spoiled("the message's body: %w", err)
	}
	return sums, nil
}

func (k *sink) measure(c *session, directory, name string, size int64) error {
	f, err := c.size(c.absolute(directory), name)
	if err != nil {
		return err
	}
	if !f.exists || f.size != size && !k.props.ascii() {
		return spoiled("upload to %s: the server has %d of %d bytes", directory, max(f.size, 0), size)
	}
	return nil
}

// errSpoiled is in errors after which an upload must not be gone on with.
var errSpoiled = errors.New("it will be uploaded anew")

func spoiled(format string, args ...any) error {
	return found("%w; %w", fmt.Errorf(format, args...), errSpoiled)
}

// deleteUpload takes away what the attempt has left.
func (k *sink) deleteUpload(c *session, at place) error {
	err := c.ftp.Delete(at.upload(c))
	if k.props.SidecarName(at.Name) != "" && (err == nil || isRefusal(err)) {
		err = errors.Join(ignoreRefusal(err), ignoreRefusal(c.ftp.Delete(at.sidecarUpload(c))))
	}
	return ignoreRefusal(err)
}
