package handler

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestOutputOfAnAttackerOnlyReachesTheLog(t *testing.T) {
	s, _, log := spec(t, "attack")
	start(t, s)
	eventually(t, "the line after the attack is logged", func() bool { return strings.Contains(log.String(), "survived") })
	text := log.String()
	wantText(t, text, `"line":"{\"@message\": 1}"`, `"cut":true`, `"level":"ERROR","msg":"survived"`, `"n":7`,
		`"adapter":"attack"`, `"host":"intake"`)
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("the log has a line that is not JSON: %.200q", line)
		}
	}
}

func TestLines(t *testing.T) {
	rows := []struct {
		name, line string
		want       map[string]any
	}{
		{"slog", `{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"slow","endpoint":"a","ms":12,"ok":true}`,
			map[string]any{"time": "2026-01-02T03:04:05Z", "level": "WARN", "msg": "slow", "endpoint": "a", "ms": 12.0, "ok": true}},
		{"level with offset", `{"level":"INFO+2","msg":"m"}`, map[string]any{"level": "INFO+2", "msg": "m"}},
		{"group stays JSON", `{"msg":"m","g":{"a":[1]}}`, map[string]any{"msg": "m", "g": `{"a":[1]}`}},
		{"unknown level is info", `{"level":"loud","msg":"m"}`, map[string]any{"level": "INFO", "msg": "m"}},
		{"hclog", `{"@level":"error","@message":"m","@module":"x"}`, map[string]any{"level": "ERROR", "msg": "m", "@module": "x"}},
		{"text", `plain text`, map[string]any{"level": "WARN", "msg": "adapter output", "line": "plain text"}},
		{"JSON without a message", `{"a":1}`, map[string]any{"level": "WARN", "line": `{"a":1}`}},
		{"message that is no text", `{"msg":1}`, map[string]any{"level": "WARN", "line": `{"msg":1}`}},
		{"array", `[1]`, map[string]any{"level": "WARN", "line": `[1]`}},
		{"half a line", `{"msg":"m"`, map[string]any{"level": "WARN", "line": `{"msg":"m"`}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var b bytes.Buffer
			logLine(slog.New(slog.NewJSONHandler(&b, nil)), []byte(r.line), false, "stderr")
			var got map[string]any
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatalf("%v in %q", err, b.String())
			}
			for k, want := range r.want {
				if got[k] != want {
					t.Errorf("%s is %v, want %v", k, got[k], want)
				}
			}
		})
	}
}

func TestDebugLinesAreDroppedWhereDebugIsOff(t *testing.T) {
	var b bytes.Buffer
	logLine(slog.New(slog.NewJSONHandler(&b, nil)), []byte(`{"level":"DEBUG","msg":"m"}`), false, "stderr")
	if b.Len() != 0 {
		t.Errorf("logged %q", b.String())
	}
}

func TestLongLinesAreCutAndTheNextIsWhole(t *testing.T) {
	input := strings.Repeat("x", 3*maxLine) + "\nnext\n\nlast without end"
	var got []string
	eachLine(strings.NewReader(input), func(line []byte, cut bool) {
		if cut != (len(got) == 0) {
			t.Errorf("line %d: cut is %v", len(got), cut)
		}
		got = append(got, string(line))
	})
	want := []string{strings.Repeat("x", maxLine), "next", "last without end"}
	if !slices.Equal(got, want) {
		t.Errorf("got %d lines of %d bytes first, want %d", len(got), len(got[0]), len(want))
	}
}

func TestWriterPutsLinesTogether(t *testing.T) {
	var b bytes.Buffer
	w := &lineWriter{log: slog.New(slog.NewTextHandler(&b, nil)), stream: "stdout"}
	for _, piece := range []string{"fir", "st\nsec", "ond\n", strings.Repeat("y", 2*maxLine), "\nend\n"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	text := b.String()
	wantText(t, text, "line=first", "line=second", "cut=true", "line=end")
}

func TestTailKeepsTheEndOrThePanic(t *testing.T) {
	var tl tail
	for i := range 30 {
		tl.add([]byte{byte('a' + i%26)})
	}
	if got := tl.lines(); len(got) != tailLines || got[tailLines-1] != "d" {
		t.Errorf("tail is %q", got)
	}
	tl.add([]byte("panic: no"))
	for range 100 {
		tl.add([]byte("stack"))
	}
	if got := tl.lines(); len(got) != tailLines || got[0] != "panic: no" {
		t.Errorf("tail is %q", got)
	}
	tl = tail{}
	tl.add(bytes.Repeat([]byte("\xff"), 10_000))
	if got := tl.lines()[0]; len(got) > tailWidth+3 {
		t.Errorf("a line of %d bytes is kept", len(got))
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`{"@message": 1}`))
	f.Add([]byte(`{"time":"x","level":"INFO","msg":"m","a":{"b":[1e999]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var b bytes.Buffer
		logLine(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug - 1000})), line, false, "stderr")
		for l := range bytes.Lines(b.Bytes()) {
			if !json.Valid(l) {
				t.Errorf("logged %q", l)
			}
		}
	})
}
