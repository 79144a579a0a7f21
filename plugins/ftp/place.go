package main

import (
	"cmp"
	"errors"
	"fmt"

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

// name gives the upload the first of its names that it may have.
func (k *sink) name(c *session, m *sdk.Message, at place) error {
	err := k.rename(c, at, at.Name)
	if errors.Is(err, errTaken) && at.Second != "" {
		// A rename of an earlier attempt may have reached the server since we looked.
		// What is there now is the last word: the temporary file is this attempt's.
		if m.Redelivered {
			if arrived, err := k.holds(c, m, at, at.Name); err != nil || arrived {
				return errors.Join(err, ignoreRefusal(c.ftp.Delete(at.upload(c))))
			}
		}
		err = k.rename(c, at, at.Second)
	}
	return k.explainTaken(at, err)
}

func ignoreRefusal(err error) error {
	if err != nil && isRefusal(err) {
		return nil
	}
	return err
}

// rename gives the upload a final name, in one step on all servers that we
// know of. Those that do not rename over a file are told to delete it first.
func (k *sink) rename(c *session, at place, name string) error {
	from, to := at.upload(c), join(c.absolute(at.Directory), name)
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
	if k.props.IfExists != files.ExistsReplace {
		if taken := k.checkFree(c, at, name); taken != nil {
			return errors.Join(err, taken)
		}
		return err
	}
	if f, sizeErr := c.size(c.absolute(at.Directory), name); sizeErr != nil || !f.exists {
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
