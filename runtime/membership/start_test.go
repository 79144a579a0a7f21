package membership

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func TestStartSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := Config{Node: "a", Address: "127.0.0.1:0", Profile: "lan", Log: slog.New(slog.DiscardHandler)}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"profile":    {func(c *Config) { c.Profile = "moon" }, "want local, lan or wan"},
		"no port":    {func(c *Config) { c.Address = "127.0.0.1" }, "gossip address"},
		"odd port":   {func(c *Config) { c.Address = "127.0.0.1:no-such-service" }, "port"},
		"taken port": {func(c *Config) { c.Address = taken.Addr().String() }, "listen.gossip"},
		"short key":  {func(c *Config) { c.Key = []byte("short") }, "key"},
	} {
		cfg := good
		c.change(&cfg)
		m, err := Start(cfg)
		if err == nil {
			stop(t, m)
			t.Errorf("%s: it started", name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestProfilesDifferInHowSoonTheyTakeANodeForDead(t *testing.T) {
	var last time.Duration
	for _, profile := range []string{"local", "lan", "wan"} {
		c := timings[profile].config()
		suspicion := time.Duration(c.SuspicionMult) * c.ProbeInterval
		if suspicion <= last || c.ProbeTimeout >= c.ProbeInterval {
			t.Errorf("%s: suspicion %v after %v, probe %v in %v", profile, suspicion, last, c.ProbeTimeout, c.ProbeInterval)
		}
		last = suspicion
	}
}

func TestGossipsLinesKeepOnlyRealErrorsAsWarnings(t *testing.T) {
	for line, want := range map[string]string{
		"[ERR] memberlist: Something broke":               "level=WARN msg=\"Something broke\" part=gossip",
		"[ERR] memberlist: Failed to send gossip to x":    "level=DEBUG msg=\"Failed to send gossip to x\" part=gossip",
		"[WARN] memberlist: Refuting a suspect message":   "level=DEBUG",
		"[DEBUG] memberlist: Stream connection from=x":    "level=DEBUG",
		"[ERR] memberlist: Push/Pull with b failed: EOF":  "level=DEBUG",
		"[ERR] memberlist: Failed fallback TCP ping: EOF": "level=DEBUG",
		"no level at all": "level=DEBUG msg=\"no level at all\"",
	} {
		var out bytes.Buffer
		w := &logWriter{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), now: time.Now}
		if n, err := w.Write([]byte(line + "\n")); n != len(line)+1 || err != nil {
			t.Errorf("%s: %d, %v", line, n, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s became %s, want %s", line, out.String(), want)
		}
	}
}
