package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Examine implements [sdk.Examiner].
func (s *source) Examine(ctx context.Context, x *sdk.Examination) error {
	err := s.pool.with(ctx, func(c *session) error { return c.introduce(x, s.props.Directory) })
	if err != nil {
		return err
	}
	items, err := s.filter.Examine(ctx, x, "ftp", s.List)
	if err != nil || s.props.AfterDelivery == files.AfterKeep || len(items) == 0 {
		return err
	}
	first, ok := items[0].Handle.(*file)
	if !ok {
		return fmt.Errorf("the item %s is not one of this location's listing", items[0].Key)
	}
	needed := rights{"d": "delete"}
	if s.props.AfterDelivery == files.AfterMove {
		needed = rights{"f": "rename"}
	}
	if s.props.Claim {
		needed["f"] = "rename"
	}
	return s.pool.with(ctx, func(c *session) error {
		return c.examineRights(x, path.Join(c.absolute(s.props.Directory), first.at), needed)
	})
}

// Examine implements [sdk.Examiner].
func (k *sink) Examine(ctx context.Context, x *sdk.Examination) error {
	return k.pool.with(ctx, func(c *session) error {
		dir := files.Fixed(k.props.Directory)
		if err := c.introduce(x, dir); err != nil {
			return err
		}
		for _, dir := range []string{dir, k.props.TemporaryDirectory} {
			if dir == "" {
				continue
			}
			if there, err := k.examineDirectory(c, x, c.absolute(dir)); err != nil || !there {
				return err
			}
		}
		return k.writeTest(c, x, dir)
	})
}

func (k *sink) writeTest(c *session, x *sdk.Examination, dir string) error {
	uploads := cmp.Or(k.props.TemporaryDirectory, dir)
	return files.WriteTest(x, c.absolute(uploads), c.absolute(dir), func(path string) error {
		return c.storeFrom(path, strings.NewReader("test\r\n"), 0)
	}, c.ftp.Rename, c.ftp.Delete)
}

func (k *sink) examineDirectory(c *session, x *sdk.Examination, dir string) (there bool, err error) {
	err = c.ftp.ChangeDir(dir)
	switch {
	case err != nil && isRefusal(err) && k.props.CreateDirectories:
		x.Step("directory", dir+" is not there, or may not be entered; it would be made")
		return false, nil
	case err != nil && isRefusal(err):
		return false, fmt.Errorf("enter %s: %w; check directory and temporary_directory, or set create_directories", dir, err)
	case err != nil:
		return false, err
	}
	x.Step("directory", dir+" is there")
	return true, c.examineRights(x, dir, rights{"c": "create files in"})
}

// introduce notes what the server and the session are like.
func (s *session) introduce(x *sdk.Examination, dir string) error {
	about := fmt.Sprintf("%s as %s", s.end.addr, s.end.props.User)
	if proxy := s.end.props.Proxy.Proxy; proxy != "" {
		about += " by " + proxy
	}
	if conn := s.control.tls(); conn != nil {
		state := conn.ConnectionState()
		certificate := state.PeerCertificates[0]
		about += fmt.Sprintf("; %s, certificate of %s until %s, SHA256:%x", tls.VersionName(state.Version),
			certificate.Subject, certificate.NotAfter.UTC().Format("2006-01-02"), sha256.Sum256(certificate.Raw))
	} else {
		x.Warn("without TLS (tls: none) the password and the files can be read on the way")
	}
	x.Step("connect and log in", about)
	x.Step("directory", fmt.Sprintf("%s, for the server: %s", dir, s.absolute(dir)))
	return nil
}

// tls is the TLS connection, nil if there is none.
func (c *controlConn) tls() *tls.Conn {
	conn := c.Conn
	if traced, ok := conn.(*tracedConn); ok {
		conn = traced.Conn
	}
	secured, _ := conn.(*tls.Conn)
	return secured
}

// rights are letters of the fact perm (RFC 3659, section 7.5.5), and what they allow.
type rights map[string]string

var permFact = regexp.MustCompile(`(?i)(?:^|[; ])perm=([a-z]*);`)

// examineRights asks what the user may do. Most servers do not tell, and there is no way
// to try it that changes nothing.
func (s *session) examineRights(x *sdk.Examination, target string, needed rights) error {
	const unknown = "the server does not tell; they show when the first file is transferred"
	_, text, err := s.command("MLST %s", target)
	if err != nil && !isRefusal(err) {
		return err
	}
	told := permFact.FindStringSubmatch(text)
	if err != nil || told == nil {
		x.Step("rights", unknown)
		return nil
	}
	perm := strings.ToLower(told[1])
	x.Step("rights", fmt.Sprintf("%q on %s (MLST)", perm, target))
	for letter, what := range needed {
		if !strings.Contains(perm, letter) {
			x.Warn("the server says that this user may not %s %s (perm=%s has no %q)", what, target, perm, letter)
		}
	}
	return nil
}
