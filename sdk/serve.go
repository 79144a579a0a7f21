package sdk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

const (
	// terminateTime bounds the drain that SIGTERM asks for.
	terminateTime = 20 * time.Second
	// partingTime is how long the last messages may take to the runtime.
	partingTime = time.Second
)

// Serve is the whole main of an adapter's binary:
//
//	func main() { sdk.Serve(adapter) }
//
// It returns, or exits, when the runtime wants the process to end, has closed its
// stream or is gone, when the lease's deadline has passed, and, after a drain, on
// SIGTERM. It exits at once with status 1 when the adapter is declared wrongly or
// when a person starts the binary.
//
// It takes standard input for noticing the runtime's death and standard output for
// the handshake; an adapter uses neither. The default loggers of log and log/slog
// write to the node's log from here on.
func Serve(a Adapter) {
	log := newLogger(os.Stderr, os.Getenv(wire.LogLevelEnv))
	slog.SetDefault(log)
	if err := validate(a); err != nil {
		fmt.Fprintf(os.Stderr, "adapter %q is declared wrongly: %v\n", a.Name, err)
		os.Exit(1)
	}
	if os.Getenv(wire.Handshake.MagicCookieKey) != wire.Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "This is the Fairlead adapter %s %s: %s\nIt is started by `fairlead run`; "+
			"put it into one of node.adapter_dirs. `fairlead adapter describe %s` shows its properties.\n",
			a.Name, a.Version, a.Summary, a.Name)
		os.Exit(1)
	}
	srv := newServer(a, hooks{now: bootclock.Now, exit: os.Exit, log: log})
	watchStdin(os.Stdin, os.Exit)
	watchSignals(srv)

	var grpcServer atomic.Pointer[grpc.Server]
	go func() {
		<-srv.doneCh // however the session came to its end
		endGracefully(grpcServer.Load())
		os.Exit(0)
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.ServerPlugins(srv),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			s := wire.NewServer(opts)
			grpcServer.Store(s)
			return s
		},
		Logger: pluginLogger(log),
	})
	// The runtime has stopped the server; the session may still be cleaning up.
	srv.wait(cleanupTime + lingerTime)
}

// endGracefully lets the last messages out. go-plugin's own streams would keep a
// graceful stop waiting for the runtime, hence the limit.
func endGracefully(s *grpc.Server) {
	if s == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.GracefulStop()
	}()
	t := time.NewTimer(partingTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// watchSignals drains on SIGTERM. SIGINT is meant for the runtime, with which we
// may share a terminal.
func watchSignals(srv *server) {
	signal.Ignore(os.Interrupt)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	go func() {
		<-ch
		if !srv.terminate(terminateTime) {
			os.Exit(0)
		}
	}()
}

// watchStdin ends the process when its standard input does: the runtime holds the
// other end of that pipe for as long as it lives. What is no pipe tells nothing.
func watchStdin(stdin *os.File, exit func(int)) {
	st, err := stdin.Stat()
	if err != nil || st.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		exit(wire.ExitOrphaned)
	}()
}

// newLogger writes one JSON object per line, as the runtime reads them.
func newLogger(w io.Writer, level string) *slog.Logger {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		min = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: min}))
}

// pluginLogger passes go-plugin's warnings on.
func pluginLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "go-plugin", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(hclogSink{log})
	return l
}

type hclogSink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s hclogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn {
		to := slog.LevelWarn
		if level >= hclog.Error {
			to = slog.LevelError
		}
		s.log.Log(context.Background(), to, msg, args...)
	}
}
