package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// restartable is a server that can be away for a while.
type restartable struct {
	*testServer
	cfg ftpd.Config
}

func newRestartable(t testing.TB, cfg ftpd.Config) *restartable {
	t.Helper()
	cert := selfSigned(t)
	r := &restartable{cfg: cfg}
	if cfg.TLS != ftpd.Plain {
		r.cfg.Certificate = &cert.Certificate
	}
	r.testServer = startServer(t, r.cfg)
	if cfg.TLS != ftpd.Plain {
		r.props["ca_file"] = cert.file
	}
	return r
}

func (r *restartable) down(t testing.TB) {
	t.Helper()
	if err := r.Stop(); err != nil {
		t.Errorf("stop ftpd: %v", err)
	}
}

func (r *restartable) up(t testing.TB) {
	t.Helper()
	cfg := r.cfg
	cfg.Addr, cfg.Root, cfg.User, cfg.Password = r.Addr(), r.Dir, testUser, testPassword
	server, err := ftpd.Start(cfg)
	if err != nil {
		t.Fatalf("start ftpd again: %v", err)
	}
	t.Cleanup(func() { server.Stop() })
	r.Server = server
}

// put makes a file appear whole.
func (r *restartable) put(t testing.TB, name string, content []byte) {
	t.Helper()
	temporary := filepath.Join(r.Dir, temporaryName("put"))
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(r.Dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (r *restartable) received(t testing.TB) []adaptertest.Received {
	t.Helper()
	var out []adaptertest.Received
	for _, name := range r.names(t) {
		if files.IsTemporary(name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, adaptertest.Received{Name: name, Content: content})
	}
	return out
}

// remaining are the files that are there, claimed ones by their own names.
func (r *restartable) remaining(t testing.TB) []string {
	all := slices.DeleteFunc(r.names(t), func(name string) bool { return name == "done" })
	for i, name := range all {
		if strings.HasPrefix(name, "fairlead-claim-") {
			all[i] = strings.TrimSuffix(strings.SplitN(name, "-", 6)[5], ".claim")
		}
	}
	return all
}

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]ftpd.Config{
		"plain with MLSD":    {},
		"explicit with LIST": {TLS: ftpd.Explicit, DisableMLSD: true},
	} {
		t.Run(name, func(t *testing.T) {
			for after, properties := range map[string][]any{
				files.AfterDelete: nil,
				files.AfterKeep:   nil,
				"claim":           {"after_delivery", "delete", "claim", true},
				"claim and move": {
					"after_delivery", "move", "claim", true, "max_depth", 2,
					"move_to", "done/{{now:2006/01}}", "move_name", "{{ftp.name}}.{{ftp.size}}",
				},
			} {
				t.Run("source, "+after, func(t *testing.T) {
					if properties == nil {
						properties = []any{"after_delivery", after}
					}
					adaptertest.Source(t, adaptertest.SourceCase{
						Adapter: adapter(), NameProperty: "ftp.name", Kept: after == files.AfterKeep,
						New: func(t testing.TB) adaptertest.SourceFixture {
							r := newRestartable(t, cfg)
							return adaptertest.SourceFixture{
								Properties: with(with(r.props, "stable_for", "0s"), properties...),
								Put:        r.put, Replace: r.put, Remaining: r.remaining, Down: r.down, Up: r.up,
							}
						},
					})
				})
			}
			t.Run("sink", func(t *testing.T) {
				adaptertest.Sink(t, adaptertest.SinkCase{
					Adapter: adapter(), Deduplicates: true, Probes: true,
					New: func(t testing.TB) adaptertest.SinkFixture {
						r := newRestartable(t, cfg)
						return adaptertest.SinkFixture{
							Properties: with(r.props, "name", "{{fairlead.id}}.bin"),
							Received:   r.received, Down: r.down, Up: r.up,
						}
					},
				})
			})
		})
	}
}

func TestSinkConformanceOfOtherWaysToPlaceFiles(t *testing.T) {
	for name, properties := range map[string][]any{
		"name is never free": {"name", "{{fairlead.id}}", "if_exists", "fail"},
		"taken names marked": {"name", "{{fairlead.id}}", "if_exists", "rename", "create_directories", true},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Sink(t, adaptertest.SinkCase{
				Adapter: adapter(), Deduplicates: true, Probes: true,
				New: func(t testing.TB) adaptertest.SinkFixture {
					r := newRestartable(t, ftpd.Config{})
					return adaptertest.SinkFixture{
						Properties: with(r.props, properties...), Received: r.received, Down: r.down, Up: r.up,
					}
				},
			})
		})
	}
}
