package handler

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

// passedOn are the variables of our environment that plugins see: where programs,
// home and certificates are, and how to show times and texts.
var passedOn = []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR"}

func reducedEnv() []string {
	var env []string
	for _, k := range passedOn {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// logLevel is the lowest level that log takes, for the adapter to log at.
func logLevel(log *slog.Logger) string {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if log.Enabled(context.Background(), l) {
			return l.String()
		}
	}
	return slog.LevelError.String()
}

// pluginRunner shows a process to go-plugin in place of its own launcher, whose
// plugins outlive a killed host, whose Kill can block for ever, and whose reader of
// standard error can be made to panic by one line.
type pluginRunner struct{ p *process }

var _ runner.Runner = pluginRunner{}

// runnerFunc is called with the environment that the handshake needs.
func (p *process) runnerFunc(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
	p.env = append(reducedEnv(), wire.LogLevelEnv+"="+logLevel(p.log), markEnv+"="+p.dir)
	p.env = append(p.env, cmd.Env...)
	return pluginRunner{p}, nil
}

func (r pluginRunner) Start(context.Context) error                      { return r.p.start() }
func (r pluginRunner) Diagnose(context.Context) string                  { return "" }
func (r pluginRunner) Name() string                                     { return r.p.name }
func (r pluginRunner) Stdout() io.ReadCloser                            { return &helloReader{p: r.p} }
func (r pluginRunner) Stderr() io.ReadCloser                            { return io.NopCloser(strings.NewReader("")) }
func (r pluginRunner) PluginToHost(n, a string) (string, string, error) { return n, a, nil }
func (r pluginRunner) HostToPlugin(n, a string) (string, string, error) { return n, a, nil }

func (r pluginRunner) Wait(ctx context.Context) error {
	select {
	case <-r.p.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r pluginRunner) Kill(context.Context) error {
	return r.p.finish(KillWithin)
}

// ID is empty for a process that was never started: go-plugin takes that as
// nothing to kill.
func (r pluginRunner) ID() string {
	if pid := r.p.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// helloReader gives go-plugin the first line of standard output and no more, so
// that it neither waits for, nor chokes on, what follows.
type helloReader struct {
	p    *process
	once sync.Once
	r    io.Reader
}

func (h *helloReader) Read(b []byte) (int, error) {
	h.once.Do(func() {
		<-h.p.helloCh // closed at the latest when the process is gone
		text := h.p.hello
		if text != "" {
			text += "\n"
		}
		h.r = strings.NewReader(text)
	})
	return h.r.Read(b)
}

func (h *helloReader) Close() error { return nil }
