package natsd_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
)

func publish(t *testing.T, url, subject string, data []byte) error {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(0))
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.Publish(ctx, subject, data)
	return err
}

func TestStreamsSurviveARestartOnTheSameAddress(t *testing.T) {
	dir := t.TempDir()
	first, err := natsd.Start(natsd.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	addr := first.Addr()
	if err := publish(t, first.URL(), "s", []byte("one")); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	first.Stop()

	second, err := natsd.Start(natsd.Config{Dir: dir, Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	if err := publish(t, second.URL(), "s", []byte("two")); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(second.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State.Msgs; got != 2 {
		t.Errorf("stream holds %d messages after the restart, want 2", got)
	}
}

func TestMaxPayloadIsWhatWasConfigured(t *testing.T) {
	s, err := natsd.Start(natsd.Config{Dir: t.TempDir(), MaxPayload: 9 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := publish(t, s.URL(), "s", make([]byte, 8<<20)); err != nil {
		t.Errorf("8 MiB under a limit of 9 MiB: %v", err)
	}
	if err := publish(t, s.URL(), "s", make([]byte, 10<<20)); err == nil {
		t.Error("10 MiB went through a limit of 9 MiB")
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	for name, cfg := range map[string]natsd.Config{
		"no directory":      {},
		"address":           {Dir: t.TempDir(), Addr: "nowhere"},
		"port":              {Dir: t.TempDir(), Addr: "127.0.0.1:nats"},
		"payload too large": {Dir: t.TempDir(), MaxPayload: 65 << 20},
	} {
		s, err := natsd.Start(cfg)
		if err == nil {
			s.Stop()
			t.Errorf("%s: started", name)
		} else if !strings.HasPrefix(err.Error(), "start broker: ") {
			t.Errorf("%s: error %q does not say what was being done", name, err)
		}
	}
}

func TestAddressInUseIsAnErrorSoon(t *testing.T) {
	s, err := natsd.Start(natsd.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	began := time.Now()
	other, err := natsd.Start(natsd.Config{Dir: t.TempDir(), Addr: s.Addr()})
	if err == nil {
		other.Stop()
		t.Fatal("two brokers on one address")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s to say so", took)
	}
}
