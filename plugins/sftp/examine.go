package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Examine implements [sdk.Examiner].
func (s *source) Examine(ctx context.Context, x *sdk.Examination) error {
	err := s.pool.with(ctx, func(c *session) error {
		c.introduce(x, s.pool.end)
		_, err := c.examineDirectory(x, s.props.Directory, s.props.AfterDelivery != files.AfterKeep)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.filter.Examine(ctx, x, "sftp", s.List)
	return err
}

// Examine implements [sdk.Examiner].
func (k *sink) Examine(ctx context.Context, x *sdk.Examination) error {
	return k.pool.with(ctx, func(c *session) error {
		c.introduce(x, k.pool.end)
		for _, dir := range []string{files.Fixed(k.props.Directory), k.props.TemporaryDirectory} {
			if dir == "" {
				continue
			}
			missing, err := c.examineDirectory(x, dir, true)
			if missing && k.props.CreateDirectories {
				x.Step("directory", dir+" is not there; it would be made")
				return nil
			}
			if err != nil {
				return err
			}
		}
		return k.writeTest(c, x)
	})
}

func (k *sink) writeTest(c *session, x *sdk.Examination) error {
	dir := files.Fixed(k.props.Directory)
	return files.WriteTest(x, cmp.Or(k.props.TemporaryDirectory, dir), dir, func(path string) error {
		f, err := c.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte("test\n"))
		return errors.Join(err, f.Close())
	}, c.Rename, c.Remove)
}

func (s *session) introduce(x *sdk.Examination, e *endpoint) {
	about := fmt.Sprintf("%s as %s; %s", e.addr, e.props.User, s.conn.ServerVersion())
	if proxy := e.props.Proxy.Proxy; proxy != "" {
		about += "; by " + proxy
	}
	x.Step("connect and log in", about)
}

// examineDirectory notes what a directory is like. Whether this user may write to it only
// a write would tell: the protocol says who owns it, not who we are.
func (s *session) examineDirectory(x *sdk.Examination, dir string, writes bool) (missing bool, err error) {
	info, err := s.Stat(dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist), outOfReach(fmt.Errorf("look at %s: %w", printable(dir), err))
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is no directory; check directory and temporary_directory", printable(dir))
	}
	about := fmt.Sprintf("%s, %v", printable(dir), info.Mode())
	if stat, ok := info.Sys().(*sftp.FileStat); ok {
		about += fmt.Sprintf(", of user %d and group %d", stat.UID, stat.GID)
	}
	x.Step("directory", about)
	if writes && info.Mode().Perm()&0o222 == 0 {
		x.Warn("%s may be written to by nobody (%v)", printable(dir), info.Mode())
	}
	return false, nil
}
