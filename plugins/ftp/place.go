package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// place is where one message goes.
type place struct {
	files.Target
	// temporary is the directory for the upload, uploadName its name there.
	temporary, uploadName string
}

// place expands the names, the same at every attempt: a probe has to look for what an
// earlier owner wrote. Its errors are permanent.
func (k *sink) place(m *sdk.Message) (place, error) {
	target, err := k.props.Target(k.props.Directory, k.props.Name, m)
	return place{target, cmp.Or(k.props.TemporaryDirectory, target.Directory), temporaryName(m.ID)}, err
}

// upload is the path of the temporary file.
func (p place) upload(c *session) string { return join(c.absolute(p.temporary), p.uploadName) }

// sidecarUpload is the path of the temporary file with the checksum. It proves nothing:
// it does not have the name that a probe asks for.
func (p place) sidecarUpload(c *session) string {
	return join(c.absolute(p.temporary), p.sidecarName())
}

func (p place) sidecarName() string {
	return strings.TrimSuffix(p.uploadName, ".part") + ".sum.part"
}

// unique reports whether only this message writes a file of the name.
func (k *sink) unique(at place, name string) bool {
	return k.props.Name.Unique() || name == at.Second
}

// makeDirectories makes those that are missing.
func (k *sink) makeDirectories(c *session, at place) error {
	if !k.props.CreateDirectories {
		return nil
	}
	for _, dir := range []string{at.temporary, at.Directory} {
		err := k.made.Ensure(dir, func() error { return c.makeDirectory(c.absolute(dir)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// errTaken says that a file of the name is there.
var errTaken = errors.New("exists already")

// checkFree returns errTaken, as a finding, if the name is taken and may not be
// replaced.
func (k *sink) checkFree(c *session, at place, name string) error {
	if k.props.IfExists == files.ExistsReplace {
		return nil
	}
	f, err := c.size(c.absolute(at.Directory), name)
	if err != nil {
		return err
	}
	if f.exists {
		return found("%w", errTaken)
	}
	return nil
}

func (k *sink) explainTaken(at place, err error) error {
	switch {
	case !errors.Is(err, errTaken):
		return err
	case at.Second != "":
		return found("%s and %s exist in %s already; take one of them away", at.Name, at.Second, at.Directory)
	}
	return found("%s exists in %s already; take it away, or set if_exists: replace or rename", at.Name, at.Directory)
}

// beforeRename does what is left to do for a name: it makes sure that it is free, where
// that matters, and puts the checksum file there. arrived says that there is no need to
// go on.
func (k *sink) beforeRename(c *session, m *sdk.Message, at place, name string, sums *files.Sums) (arrived bool, err error) {
	if name == at.Second && m.Redelivered {
		// A rename of an earlier attempt may have reached the server since we looked.
		// What is there now is the last word: the temporary file is this attempt's.
		if arrived, err := k.holds(c, m, at, at.Name); err != nil || arrived {
			return arrived, errors.Join(err, k.deleteUpload(c, at))
		}
	}
	if err := k.checkFree(c, at, name); err != nil {
		return false, err
	}
	return false, k.writeSidecar(c, at, name, sums)
}

// writeSidecar puts the checksum file of this name there. The file itself must not be
// there without it, so it comes first.
func (k *sink) writeSidecar(c *session, at place, name string, sums *files.Sums) error {
	sidecar := k.props.SidecarName(name)
	if sidecar == "" {
		return nil
	}
	content := k.props.Sidecar(name, sums)
	err := c.storeFrom(at.sidecarUpload(c), bytes.NewReader(content), 0)
	if err == nil {
		err = k.measure(c, at.temporary, at.sidecarName(), int64(len(content)))
	}
	if err == nil {
		err = k.setMode(c, at.sidecarUpload(c))
	}
	if err == nil {
		err = k.renameOver(c, at.sidecarUpload(c), at.Directory, sidecar)
	}
	if err != nil {
		return fmt.Errorf("write checksum file %s: %w", sidecar, err)
	}
	return nil
}

func ignoreRefusal(err error) error {
	if err != nil && isRefusal(err) {
		return nil
	}
	return err
}

// rename gives the upload a final name.
func (k *sink) rename(c *session, at place, name string) error {
	from, to := at.upload(c), join(c.absolute(at.Directory), name)
	if k.props.IfExists == files.ExistsReplace {
		return k.renameOver(c, from, at.Directory, name)
	}
	// As late as possible: FTP has no rename that refuses to replace.
	if err := k.checkFree(c, at, name); err != nil {
		return err
	}
	err := c.ftp.Rename(from, to)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("rename to %s: %w", to, err)
	if !isRefusal(err) {
		return err
	}
	return errors.Join(err, k.checkFree(c, at, name))
}

// renameOver replaces what has the name, in one step on all servers that we know of.
// Those that do not rename over a file are told to delete it first.
func (k *sink) renameOver(c *session, from, directory, name string) error {
	dir := c.absolute(directory)
	to := join(dir, name)
	err := c.ftp.Rename(from, to)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("rename to %s: %w", to, err)
	if !isRefusal(err) {
		return err
	}
	if f, sizeErr := c.size(dir, name); sizeErr != nil || !f.exists {
		return errors.Join(err, sizeErr)
	}
	if deleteErr := c.ftp.Delete(to); deleteErr != nil {
		return errors.Join(err, fmt.Errorf("delete what is there: %w", deleteErr))
	}
	if err := c.ftp.Rename(from, to); err != nil {
		return fmt.Errorf("rename to %s: %w", to, err)
	}
	return nil
}
