package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

const (
	// StartTimeout is how long a plugin may take from its start to its handshake
	// and its answer to Describe, each.
	StartTimeout = 10 * time.Second
	// KillWithin is how long a process that got SIGKILL may take to be gone, unless
	// the Spec says otherwise. Only one that hangs in the kernel takes that long.
	KillWithin = 2 * time.Second
	// closeWithin bounds what is left to do when the process is gone.
	closeWithin = 5 * time.Second
	// exitWithin is how long a plugin may take to end by itself when asked to.
	exitWithin = 2500 * time.Millisecond

	// windowSize is the flow control window of stream and connection: as much as
	// a few messages of the largest inline content.
	windowSize = 1 << 20
)

// launchSpec names the file to run and what it gets besides the environment.
type launchSpec struct {
	name, path, sha256 string
	base               string
	inherit            []*os.File
	log                *slog.Logger
	timeout            time.Duration
	// kill is the Spec's KillWithin, means are for tests.
	kill  time.Duration
	means means
}

// instance is a launched plugin: its process, go-plugin's client and ours.
type instance struct {
	spec    launchSpec
	dir     *socketDir
	proc    *process
	client  *plugin.Client
	adapter adapterpb.AdapterClient

	mu    sync.Mutex
	conns []*grpc.ClientConn

	closeOnce sync.Once
	closed    chan struct{}
}

// launch starts the plugin and returns when it can be called. The error says what
// to do about it; nothing is left behind then.
func launch(ctx context.Context, s launchSpec) (*instance, error) {
	dir, err := newSocketDir(s.base)
	if err != nil {
		return nil, fmt.Errorf("adapter %s: directory for its socket: %w", s.name, err)
	}
	i := &instance{spec: s, dir: dir, proc: newProcess(s, dir.path), closed: make(chan struct{})}
	i.client = plugin.NewClient(i.config())

	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, ErrStartTimeout)
	defer cancel()
	connected := make(chan error, 1)
	go func() { connected <- i.connect() }()
	select {
	case err = <-connected:
	case <-ctx.Done():
		// go-plugin's Start takes no context. It returns when the process is gone,
		// and at its own time-out if that hangs in the kernel.
		if i.proc.finish(s.kill) == nil {
			<-connected //nolint:errcheck // it fails because of the kill
		}
		err = context.Cause(ctx)
	}
	if err == nil {
		return i, nil
	}
	if left := i.close(0); left != nil {
		return nil, left
	}
	return nil, i.explain(err, i.proc.exitError(true))
}

// discard closes an instance that err made useless, and returns what to report.
func (i *instance) discard(err error) error {
	if left := i.close(0); left != nil {
		return fmt.Errorf("%w (after: %w)", left, err)
	}
	return err
}

func (i *instance) config() *plugin.ClientConfig {
	return &plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.ClientPlugins(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		RunnerFunc:       i.proc.runnerFunc,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: i.dir.path},
		// Ours ends first and knows the reason.
		StartTimeout: i.spec.timeout + time.Second,
		Logger:       pluginLogger(i.spec.log),
		SyncStdout:   &lineWriter{log: i.spec.log, stream: "stdout"},
		SyncStderr:   &lineWriter{log: i.spec.log, stream: "stderr"},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessageBytes)),
			grpc.WithInitialWindowSize(windowSize),
			grpc.WithInitialConnWindowSize(windowSize),
			grpc.WithChainStreamInterceptor(i.noteConn),
		},
	}
}

// noteConn remembers the connections that go-plugin makes: it forgets to close one
// when the plugin dies between its handshake and our connecting.
func (i *instance) noteConn(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	i.mu.Lock()
	if len(i.conns) == 0 || i.conns[len(i.conns)-1] != cc {
		i.conns = append(i.conns, cc)
	}
	i.mu.Unlock()
	return next(ctx, d, cc, method, opts...)
}

func (i *instance) connect() error {
	c, err := i.client.Client()
	if err != nil {
		return err
	}
	raw, err := c.Dispense(wire.PluginName)
	if err != nil {
		return err
	}
	adapter, ok := raw.(adapterpb.AdapterClient)
	if !ok {
		return fmt.Errorf("dispensed %T, not an adapter's client", raw)
	}
	i.adapter = adapter
	return nil
}

// describe asks what the adapter is.
func (i *instance) describe(ctx context.Context) (*adapterpb.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, i.spec.timeout)
	defer cancel()
	d, err := i.adapter.Describe(ctx, &adapterpb.DescribeRequest{})
	if err != nil {
		return nil, i.callError(ctx, "describe", err)
	}
	return d, nil
}

// callError explains a failed unary call: the process's end, if that was the
// reason, or what the adapter said.
func (i *instance) callError(ctx context.Context, what string, err error) error {
	if ctx.Err() == nil && i.proc.wait(pipesGrace) {
		return i.proc.exitError(true)
	}
	return fmt.Errorf("adapter %s: %s: %s (%s)", i.spec.name, what,
		status.Convert(err).Message(), status.Code(err))
}

// close asks the plugin to end, and after grace kills its group. It returns when
// everything the plugin had is gone, or after a bounded time with a *SurvivesError.
// It may be called several times, also at the same time.
func (i *instance) close(grace time.Duration) error {
	i.shutDown()
	if i.waitClosed(grace) {
		return i.proc.finish(i.spec.kill)
	}
	err := i.proc.finish(i.spec.kill)
	switch {
	case err != nil:
		i.spec.log.Error("adapter process does not end although it was killed",
			"adapter", i.spec.name, "error", err)
	case !i.waitClosed(closeWithin):
		i.spec.log.Error("adapter process is gone, but what belongs to it here is not closed yet",
			"adapter", i.spec.name)
	}
	return err
}

// shutDown asks the plugin to end and, when it has, frees what belongs to it here.
func (i *instance) shutDown() {
	i.closeOnce.Do(func() {
		go func() { // closed says when it has ended
			defer close(i.closed)
			i.client.Kill()
			i.mu.Lock()
			conns := i.conns
			i.mu.Unlock()
			for _, c := range conns {
				c.Close()
			}
			if i.proc.pid() != 0 && i.proc.wait(closeWithin) {
				<-i.proc.drained
			}
			i.dir.remove()
		}()
	})
}

func (i *instance) waitClosed(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-i.closed:
		return true
	case <-t.C:
		return false
	}
}

// explain turns the error of a failed start into one that says what is wrong with
// the binary. exited tells how the process had ended, if it had.
func (i *instance) explain(err error, exited *ExitError) error {
	name, path := i.spec.name, i.spec.path
	hello := ""
	select {
	case <-i.proc.helloCh:
		hello = i.proc.hello
	default:
	}
	switch {
	case errors.Is(err, ErrStartTimeout):
		return because(ErrStartTimeout, "adapter %s: %s was started but said nothing for %v: "+
			"is it an adapter, and is the machine overloaded?", name, path, i.spec.timeout)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("adapter %s: start: %w", name, err)
	case i.proc.pid() == 0:
		return err // start has said it all
	case hello == "" && exited != nil && !i.proc.killedByUs():
		return exited
	case hello == "":
		return because(ErrNotPlugin, "adapter %s: %s is not a fairlead adapter: "+
			"it closed its standard output without a handshake", name, path)
	}
	if e := i.explainHello(hello); e != nil {
		return e
	}
	if exited != nil && !i.proc.killedByUs() {
		return exited
	}
	return fmt.Errorf("adapter %s: start %s: %w", name, path, err)
}

// explainHello finds out what is wrong with a handshake line.
func (i *instance) explainHello(hello string) error {
	parts := strings.Split(strings.TrimSpace(hello), "|")
	core, err := strconv.Atoi(parts[0])
	if err != nil || len(parts) < 5 {
		line := printable([]byte(hello))
		if len(line) > 80 {
			line = strings.ToValidUTF8(line[:80], "") + "..."
		}
		return because(ErrNotPlugin, "adapter %s: %s is not a fairlead adapter: it printed %q instead of a handshake",
			i.spec.name, i.spec.path, line)
	}
	version, err := strconv.Atoi(parts[1])
	if err != nil || core != plugin.CoreProtocolVersion || version != wire.ProtocolVersion {
		return because(ErrProtocol, "adapter %s: %s speaks protocol version %s, this fairlead speaks %d: "+
			"install one that was built with a matching sdk", i.spec.name, i.spec.path, parts[1], wire.ProtocolVersion)
	}
	return nil
}
