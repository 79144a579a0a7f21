package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for a condition.
const patience = 20 * time.Second

// broker is a NATS server that can be stopped and started again on its address.
type broker struct {
	cfg natsd.Config
	s   *natsd.Server
	nc  *nats.Conn // the test's own look at it
	js  jetstream.JetStream
}

func newBroker(t testing.TB, cfg natsd.Config) *broker {
	t.Helper()
	cfg.Dir = t.TempDir()
	b := &broker{cfg: cfg}
	b.start(t)
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	s, err := natsd.Start(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.s, b.cfg.Addr = s, s.Addr()
	b.nc, err = nats.Connect(s.URL(), nats.UserInfo(b.cfg.User, b.cfg.Password), nats.NoReconnect(), b.trust())
	if err != nil {
		t.Fatal(err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
}

// trust lets the test's own connection accept the broker's certificate.
func (b *broker) trust() nats.Option {
	if b.cfg.TLS == nil {
		return func(*nats.Options) error { return nil }
	}
	return nats.Secure(&tls.Config{InsecureSkipVerify: true})
}

func (b *broker) stop() {
	if b.s != nil {
		b.nc.Close()
		b.s.Stop()
		b.s = nil
	}
}

func (b *broker) stream(t testing.TB, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "ORDERS"
	}
	if cfg.Subjects == nil {
		cfg.Subjects = []string{"orders.>"}
	}
	s, err := b.js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *broker) put(t testing.TB, subject, content string, opts ...jetstream.PublishOpt) uint64 {
	t.Helper()
	ack, err := b.js.Publish(t.Context(), subject, []byte(content), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// messages returns everything that a stream holds.
func (b *broker) messages(t testing.TB, stream string) []*jetstream.RawStreamMsg {
	t.Helper()
	s, err := b.js.Stream(context.WithoutCancel(t.Context()), stream)
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	st := s.CachedInfo().State
	for seq := st.FirstSeq; seq <= st.LastSeq && st.Msgs > 0; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err == nil {
			all = append(all, m)
		}
	}
	return all
}

func (b *broker) consumer(t testing.TB) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), "ORDERS", "fairlead")
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo()
}

func decode[P any](t testing.TB, properties map[string]any) P {
	t.Helper()
	data, err := json.Marshal(properties)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sdk.DecodeProperties[P](data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var quiet = sdk.Env{Endpoint: "test", Log: slog.New(slog.DiscardHandler)}

// newSink opens a port to subject orders.in of stream ORDERS.
func newSink(t testing.TB, url string, more map[string]any) *sink {
	t.Helper()
	properties := map[string]any{"broker": url, "stream": "ORDERS", "subject": "orders.in"}
	for k, v := range more {
		properties[k] = v
	}
	s, err := openSink(t.Context(), decode[sendProperties](t, properties), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s.(*sink)
}

func message(id, content string) *sdk.Message {
	return &sdk.Message{ID: id, Parts: []sdk.MessagePart{sdk.InlinePart("", "", []byte(content))}}
}

func newID(t testing.TB) string {
	t.Helper()
	u, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}

// idAt makes an ID that looks as if made at a given time.
func idAt(t testing.TB, at time.Time) string {
	t.Helper()
	u := uuid.MustParse(newID(t))
	ms := at.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	return u.String()
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s in vain for: %s", patience, what)
		}
	}
}

// proxy stands between an adapter and its broker and can lose what the broker
// answers, or break connections.
type proxy struct {
	l      net.Listener
	target string
	deaf   atomic.Bool // drops everything from broker to adapter

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(server, client, func() bool { return false }) })
		p.wg.Go(func() { p.copy(client, server, p.deaf.Load) })
	}
}

func (p *proxy) copy(to, from net.Conn, drop func() bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !drop() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

func readAll(t testing.TB, c *sdk.Content) string {
	t.Helper()
	var all []byte
	for part, err := range c.Parts {
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return string(all)
}
