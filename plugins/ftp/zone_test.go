package main

import (
	"errors"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestTimesOfLISTAreInTheServersTimeZone(t *testing.T) {
	s := startScripted(t, "", map[string]handler{
		"LIST": sends("-rw-r--r-- 1 1 1 3 Jan 05 2024 old.edi\r\n-rw-r--r-- 1 1 1 3 Jul 05 2024 summer.edi\r\n"),
	})
	for zone, want := range map[string][2]string{
		"UTC":              {"2024-01-05T00:00:00Z", "2024-07-05T00:00:00Z"},
		"Europe/Paris":     {"2024-01-04T23:00:00Z", "2024-07-04T22:00:00Z"},
		"America/New_York": {"2024-01-05T05:00:00Z", "2024-07-05T04:00:00Z"},
	} {
		src := newSource(t, s.props("server_time_zone", zone, "after_delivery", "keep"))
		items := list(t, src)
		for i, name := range []string{"old.edi", "summer.edi"} {
			if got := items[name].Context["ftp.modified"]; got != want[i] {
				t.Errorf("in %s, %s is of %s, want %s", zone, name, got, want[i])
			}
		}
	}
}

// A kept file loses its hour in LIST when it is half a year old. That must not make it
// another file.
func TestKeyOfAKeptFileIsOfTheServersDay(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Paris", "America/New_York", "Asia/Tokyo"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		src := newSource(t, map[string]any{"address": "ftp.example", "server_time_zone": name, "after_delivery": "keep"})
		day := time.Date(2026, 1, 5, 0, 0, 0, 0, zone)
		keys := map[string]bool{}
		for hour := range 24 {
			keys[src.key(".", &file{name: "a", modified: day.Add(time.Duration(hour)*time.Hour + 33*time.Minute)})] = true
		}
		keys[src.key(".", &file{name: "a", modified: day})] = true
		if len(keys) != 1 {
			t.Errorf("in %s a kept file has the keys %v over its life", name, keys)
		}
	}
}

func TestTimesOfMLSTAndMDTMAreUTCWhateverTheTimeZone(t *testing.T) {
	for features, more := range map[string]map[string]handler{
		"MLST":      {"MLSD": sends("type=file;size=3;modify=20260105103317; a.edi\r\n"), "MLST": says("250-facts\r\n type=file;size=3; /in/a.edi\r\n modify=20260105103317; /in/a.edi\r\n250 end")},
		"MDTM SIZE": {"LIST": sends("-rw-r--r-- 1 1 1 3 Jan 05 10:33 a.edi\r\n"), "MDTM": says("213 20260105103317"), "SIZE": says("213 3")},
	} {
		s := startScripted(t, features, more)
		src := newSource(t, s.props("server_time_zone", "Asia/Tokyo"))
		item := list(t, src)["a.edi"]
		if got := item.Context["ftp.modified"]; got != "2026-01-05T10:33:17Z" {
			t.Errorf("with %s the time is %s", features, got)
		}
		if err := src.Settle(testContext(t), item); err != nil || s.count("DELE") != 1 {
			t.Errorf("with %s: settle: %v", features, err)
		}
	}
}

func TestUnknownTimeZonesAreRefused(t *testing.T) {
	for _, zone := range []string{"Europe/Atlantis", "Local", "../etc/passwd"} {
		_, err := sdk.DecodeProperties[receiveProperties](mustJSON(t, map[string]any{"address": "ftp.example", "server_time_zone": zone}))
		var wrong *sdk.PropertyError
		if !errors.As(err, &wrong) || wrong.Property != "server_time_zone" {
			t.Errorf("%s: %v", zone, err)
		}
	}
}
