package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Probe tells whether the message has been written.
//
//   - A file of the final name with the message's size and content is proof of arrival.
//     If the name contains the message's ID, the size is enough.
//   - A temporary file of the message without the final one is proof of absence, since
//     arriving is the renaming of the last temporary file.
//   - Nothing of either is Unknown: either nothing was written, or the file has arrived
//     and was taken by its consumer.
//   - What was appended to a file leaves no trace of its own: Unknown.
func (k *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	if len(m.Parts) != 1 {
		return sdk.Absent, nil // Send refuses it
	}
	at, err := k.place(m)
	if err != nil {
		return sdk.Absent, nil // Send refuses it, and says why
	}
	if k.props.IfExists == files.ExistsAppend {
		return sdk.Unknown, nil
	}
	arrival := sdk.Unknown
	err = k.pool.with(ctx, func(c *session) error {
		// Temporary files first: one that is renamed between the two looks is then seen
		// in the second.
		temps, err := k.temps(ctx, c, at, m.ID)
		if err != nil {
			return err
		}
		there, err := k.arrived(c, at, m)
		switch {
		case err != nil:
			return err
		case there:
			arrival = sdk.Arrived
			return k.removeTemps(ctx, c, at, m.ID)
		case len(temps) > 0:
			k.setLeft(m.ID, true)
			arrival = sdk.Absent
		}
		return nil
	})
	if err != nil {
		return sdk.Unknown, fmt.Errorf("probe %s: %w", at.Name, err)
	}
	return arrival, nil
}

// arrived looks at all names that the file may have.
func (k *sink) arrived(c *session, at place, m *sdk.Message) (bool, error) {
	for _, name := range at.Names() {
		unique := k.props.Name.Unique() || name == at.Second
		if there, err := k.holds(c, path.Join(at.Directory, name), unique, m); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// holds reports whether the final name belongs to a file with the message's content.
// Where files are replaced, a file of the same name and content counts whoever wrote
// it, as writing it again would change nothing.
func (k *sink) holds(c *session, target string, unique bool, m *sdk.Message) (bool, error) {
	info, err := c.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() != m.Body().Size {
		return false, err
	}
	if unique {
		return true, nil
	}
	// Servers tell seconds.
	if k.props.IfExists != files.ExistsReplace && !k.props.MadeFor(m, info.ModTime(), time.Second) {
		return false, nil
	}
	want, err := contentSum(m.Body())
	if err != nil {
		return false, found(err)
	}
	file, err := c.Open(target)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum := sha256.New()
	_, err = file.WriteTo(sum)
	if err := errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	return bytes.Equal(sum.Sum(nil), want), nil
}

func contentSum(part *sdk.MessagePart) ([]byte, error) {
	if len(part.SHA256) == sha256.Size {
		return part.SHA256, nil
	}
	content, err := part.Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return sum.Sum(nil), nil
}
