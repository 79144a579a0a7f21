package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestJSONRecordsCarryTheNodeAndObeyTheLevel(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger(&out, LogOptions{Level: "warn", Format: "json", Node: "node-a"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.Warn("shown", "epoch", 4)
	var rec map[string]any
	if err := json.Unmarshal(out.Bytes(), &rec); err != nil {
		t.Fatalf("want one JSON record, got %q: %v", out.String(), err)
	}
	if rec["msg"] != "shown" || rec["node"] != "node-a" || rec["epoch"] != 4.0 {
		t.Errorf("got record %v", rec)
	}

	out.Reset()
	if err := SetLevel(level, "debug"); err != nil {
		t.Fatal(err)
	}
	log.Debug("now shown")
	if !strings.Contains(out.String(), "now shown") {
		t.Error("the level was not changed while in use")
	}
}

func TestTextAtInfoIsTheDefault(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger(&out, LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("started", "host", "intake")
	if got := out.String(); !strings.Contains(got, "msg=started host=intake") || strings.Contains(got, "hidden") {
		t.Errorf("got %q", got)
	}
	if level.Level() != slog.LevelInfo {
		t.Errorf("level is %v, want info", level.Level())
	}
}

func TestUnknownSettingsNameWhatIsPossible(t *testing.T) {
	for _, o := range []LogOptions{{Level: "loud"}, {Format: "xml"}, {Level: "INFO+3"}} {
		_, _, err := NewLogger(&bytes.Buffer{}, o)
		if err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: got error %v, want one that says what is possible", o, err)
		}
	}
}
