package main

import (
	"bytes"
	"context"
	"fmt"
	"path"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// writeSidecar puts the checksum file of this name there. The file itself must not be
// there without it, so it comes first; but one that belongs to another file must stay:
// errTaken says that there is another file. Any error is of before the rename of the
// file itself.
func (k *sink) writeSidecar(ctx context.Context, c *session, at place, name string, sums *files.Sums, id string) error {
	sidecar := k.props.SidecarName(name)
	if sidecar == "" {
		return nil
	}
	if k.props.IfExists != files.ExistsReplace {
		if err := c.run(ctx, func() error { return free(c, path.Join(at.Directory, name)) }); err != nil {
			return err
		}
	}
	// It is found and taken away with what an attempt leaves, and like that it proves
	// that the attempt has not come to its end.
	temp := path.Join(at.temporary, files.AttemptName(id))
	err := k.writeSmall(ctx, c, temp, k.props.Sidecar(name, sums))
	if err == nil {
		err = c.run(ctx, func() error { return replace(c, temp, path.Join(at.Directory, sidecar)) })
	}
	if err != nil {
		k.discard(ctx, c, temp, id)
		return sdk.Disconnected(fmt.Errorf("write checksum file %s: %w", sidecar, err))
	}
	return nil
}

func (k *sink) writeSmall(ctx context.Context, c *session, temp string, content []byte) error {
	file, _, err := k.create(ctx, c, temp, 0)
	if err != nil {
		return err
	}
	if _, err := k.copy(ctx, c, file, bytes.NewReader(content)); err != nil {
		return err
	}
	if err := k.finish(ctx, c, file, temp, nil); err != nil {
		return err
	}
	return k.measure(ctx, c, temp, int64(len(content)))
}
