package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestDefaultsOfProperties(t *testing.T) {
	r := decode[receiveProperties](t, map[string]any{"broker": "nats://b", "stream": "S", "consumer": "C"})
	if r.AckWait.D() != time.Minute || r.Prefetch != 0 || r.RetryDelay.D() != 5*time.Second || r.Timeout.D() != 10*time.Second {
		t.Errorf("receive defaults: %+v", r)
	}
	s := decode[sendProperties](t, map[string]any{"broker": "tls://a:1,tls://b:2", "stream": "S", "subject": "x.y"})
	if s.DuplicateWindow.D() != 2*time.Minute || s.Create || s.Timeout.D() != 10*time.Second {
		t.Errorf("send defaults: %+v", s)
	}
}

func TestWrongPropertiesAreExplained(t *testing.T) {
	send := map[string]any{"broker": "nats://b:4222", "stream": "S", "subject": "s"}
	receive := map[string]any{"broker": "nats://b:4222", "stream": "S", "consumer": "C"}
	for name, c := range map[string]struct {
		base     map[string]any
		property string
		value    any
		want     string
	}{
		"another broker":      {send, "broker", "amqp://user:secret@h:5672", "broker: amqp://...: not served yet; this version speaks nats:// and tls://"},
		"second of two":       {send, "broker", "nats://h:1,kafka://h", "kafka://...: not served yet"},
		"no scheme":           {send, "broker", "localhost:4222", "write it as nats://host:4222"},
		"no host":             {send, "broker", "nats://", "not an address"},
		"bad port":            {send, "broker", "nats://h:x", "not an address"},
		"credentials in it":   {send, "broker", "nats://u:secret@h:4222", "belong into user and password"},
		"path":                {send, "broker", "nats://h:4222/x", "more than host and port"},
		"stream with a dot":   {send, "stream", "A.B", "names contain no"},
		"wildcard subject":    {send, "subject", "a.*", "wildcard"},
		"empty token":         {send, "subject", "a..b", "empty part"},
		"space in subject":    {send, "subject", "a b", "space or control"},
		"line break":          {send, "subject", "a\r\nPUB x 0", "space or control"},
		"password, no user":   {send, "password", "secret", "a password needs one"},
		"no timeout":          {send, "timeout", "0s", "more than 0s"},
		"tiny window":         {send, "duplicate_window", "1ms", "100ms or more"},
		"unknown":             {send, "subjects", "x", "subjects"},
		"consumer name":       {receive, "consumer", "a b", "names contain no"},
		"> in the middle":     {receive, "subject", "a.>.b", "only at the end"},
		"short ack_wait":      {receive, "ack_wait", "10ms", "1s or more"},
		"negative prefetch":   {receive, "prefetch", -1, "want 0 to 1024"},
		"wildcard dead queue": {receive, "dead_letter_subject", "dead.>", "wildcard"},
	} {
		t.Run(name, func(t *testing.T) {
			properties := map[string]any{c.property: c.value}
			for k, v := range c.base {
				if k != c.property {
					properties[k] = v
				}
			}
			data, err := json.Marshal(properties)
			if err != nil {
				t.Fatal(err)
			}
			if _, has := c.base["consumer"]; has {
				_, err = sdk.DecodeProperties[receiveProperties](data)
			} else {
				_, err = sdk.DecodeProperties[sendProperties](data)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error gives the secret away: %v", err)
			}
		})
	}
}

func TestWildcardSubjectsAreReceived(t *testing.T) {
	for _, subject := range []string{"a", "a.*.c", "a.>", ">"} {
		if err := checkSubject("subject", subject, true); err != nil {
			t.Error(err)
		}
	}
}

func TestSubjectCovers(t *testing.T) {
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false},
		{"a.*", "a", false},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{">", "a", true},
		{"a.*", "a.>", false},
		{"a.*", "a.*", true},
	} {
		if got := subjectCovers(c.outer, c.inner); got != c.want {
			t.Errorf("subjectCovers(%q, %q) = %t, want %t", c.outer, c.inner, got, c.want)
		}
	}
}
