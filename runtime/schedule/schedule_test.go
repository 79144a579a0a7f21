package schedule

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t testing.TB, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	v, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindows(t *testing.T) {
	const paris = "Europe/Paris"
	for _, c := range []struct {
		window, now string
		open        bool
		change      string // on the clock of Paris
	}{
		{"06:00-22:00", "2026-11-23 05:59", false, "2026-11-23 06:00 +0100"},
		{"06:00-22:00", "2026-11-23 06:00", true, "2026-11-23 22:00 +0100"},
		{"06:00-22:00", "2026-11-23 22:00", false, "2026-11-24 06:00 +0100"},
		{"22:00-04:00", "2026-11-23 23:30", true, "2026-11-24 04:00 +0100"},
		{"22:00-04:00", "2026-11-23 03:59", true, "2026-11-23 04:00 +0100"},
		{"00:00-24:00", "2026-11-23 12:00", true, ""},
		{"Mon-Fri 06:00-22:00", "2026-11-27 22:00", false, "2026-11-30 06:00 +0100"},
		{"Mon-Fri 06:00-22:00, Sat 08:00-12:00", "2026-11-27 22:00", false, "2026-11-28 08:00 +0100"},
		{"Fri-Mon 22:00-04:00", "2026-11-24 03:00", true, "2026-11-24 04:00 +0100"}, // Tuesday morning is Monday's
		{"Fri-Mon 22:00-04:00", "2026-11-24 22:30", false, "2026-11-27 22:00 +0100"},
		{"06:00-12:00,12:00-18:00", "2026-11-23 07:00", true, "2026-11-23 18:00 +0100"},
		// In spring 02:00 becomes 03:00.
		{"02:30-05:00", "2026-03-29 01:00", false, "2026-03-29 03:00 +0200"},
		{"01:00-02:30", "2026-03-29 01:30", true, "2026-03-29 03:00 +0200"},
		{"02:10-02:50", "2026-03-29 00:00", false, "2026-03-30 02:10 +0200"},
		{"00:00-24:00", "2026-03-29 00:00", true, ""},
		// In autumn 03:00 becomes 02:00.
		{"02:30-05:00", "2026-10-25 01:00", false, "2026-10-25 02:30 +0200"},
		{"02:30-05:00", "2026-10-25 04:00", true, "2026-10-25 05:00 +0100"},
		{"01:00-02:30", "2026-10-25 01:30", true, "2026-10-25 02:30 +0200"},
	} {
		w, err := ParseWindow(c.window, paris)
		if err != nil {
			t.Fatal(err)
		}
		open, change := w.At(at(t, paris, c.now))
		got := ""
		if !change.IsZero() {
			got = change.In(w.zone).Format("2006-01-02 15:04 -0700")
		}
		if open != c.open || got != c.change {
			t.Errorf("%s at %s: open %v until %s, want %v until %s", c.window, c.now, open, got, c.open, c.change)
		}
	}
}

var zones = []string{"Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC", "America/Sao_Paulo", "Africa/Casablanca"}

// At says what a look at every minute would say.
func TestAWindowChangesWhenAMinuteByMinuteLookSaysSo(t *testing.T) {
	clock := rapid.SampledFrom([]string{"00:00", "00:30", "01:30", "02:00", "02:15", "02:30", "03:00", "12:00", "23:59"})
	days := rapid.SampledFrom([]string{"", "Sun ", "Sat-Mon ", "Wed "})
	rapid.Check(t, func(t *rapid.T) {
		from, to := clock.Draw(t, "from"), clock.Draw(t, "to")
		if from == to {
			to = "24:00"
		}
		text := days.Draw(t, "days") + from + "-" + to
		w, err := ParseWindow(text, rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		// Around the changes of clocks of 2026, and elsewhere.
		day := rapid.SampledFrom([]string{"2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-07-01"}).Draw(t, "day")
		began, _ := time.Parse(time.DateOnly, day)
		began = began.Add(-36*time.Hour + time.Duration(rapid.IntRange(0, 72*60).Draw(t, "minute"))*time.Minute)
		open, change := w.At(began)
		if open != w.open(began) {
			t.Fatalf("%s at %v: open %v", w, began, open)
		}
		want := time.Time{}
		for next := began; next.Before(began.Add(8 * 24 * time.Hour)); {
			if next = next.Add(time.Minute); w.open(next) != open {
				want = next
				break
			}
		}
		if !change.Equal(want) {
			t.Fatalf("%s at %v, open %v: changes at %v, want %v", w, began, open, change, want)
		}
	})
}

func TestCronAtTheChangeOfClocks(t *testing.T) {
	for _, c := range []struct{ cron, zone, now, want string }{
		{"30 6 * * 1-5", "Europe/Paris", "2026-11-20 06:30", "2026-11-23 06:30 +0100"},
		{"@daily", "Europe/Paris", "2026-03-28 12:00", "2026-03-29 00:00 +0100"},
		// Left out: at the moment of the jump, once.
		{"30 2 * * *", "Europe/Paris", "2026-03-28 12:00", "2026-03-29 03:00 +0200"},
		{"30 2 * * *", "Europe/Paris", "2026-03-29 03:00", "2026-03-30 02:30 +0200"},
		{"*/20 2 * * *", "Europe/Paris", "2026-03-29 03:00", "2026-03-30 02:00 +0200"},
		// Twice: the first time.
		{"30 2 * * *", "Europe/Paris", "2026-10-24 12:00", "2026-10-25 02:30 +0200"},
		{"30 1 * * *", "America/New_York", "2026-10-31 12:00", "2026-11-01 01:30 -0400"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-04 02:30 +1100"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-05 01:45 +1100"},
		{"30 2 * * *", "Asia/Kolkata", "2026-03-28 12:00", "2026-03-29 02:30 +0530"},
		// Every hour: by the time that passes.
		{"*/30 * * * *", "Europe/Paris", "2026-03-29 01:30", "2026-03-29 03:00 +0200"},
	} {
		s, err := ParseCron(c.cron, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(at(t, c.zone, c.now)).Format("2006-01-02 15:04 -0700"); got != c.want {
			t.Errorf("%s after %s: %s, want %s", s, c.now, got, c.want)
		}
	}
}

// Whatever the clocks do, a daily job comes once on each day, and times only grow.
func TestADailyJobRunsOnceADay(t *testing.T) {
	for _, zone := range zones {
		for _, text := range []string{"0 0 * * *", "15 1 * * *", "45 1 * * *", "30 2 * * *", "59 2 * * *", "0 3 * * *", "59 23 * * *"} {
			s, err := ParseCron(text, zone)
			if err != nil {
				t.Fatal(err)
			}
			now := at(t, zone, "2026-01-01 00:00").Add(-time.Minute)
			for day := range 365 {
				next := s.Next(now)
				want := at(t, zone, "2026-01-01 12:00").AddDate(0, 0, day).Format(time.DateOnly)
				if got := next.Format(time.DateOnly); got != want || !next.After(now) {
					t.Fatalf("%s: run %d is on %s, want %s", s, day, got, want)
				}
				now = next
			}
		}
	}
}

func TestEveryHourRunsAsOftenAsHoursPass(t *testing.T) {
	s, err := ParseCron("0 * * * *", "Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	now, runs := at(t, "Europe/Paris", "2026-10-25 00:00"), 0
	for end := now.Add(24 * time.Hour); !now.After(end); runs++ {
		next := s.Next(now)
		if next.Sub(now) != time.Hour {
			t.Fatalf("from %v to %v", now, next)
		}
		now = next
	}
	if runs != 25 {
		t.Errorf("%d runs", runs)
	}
}

func TestWrongSchedules(t *testing.T) {
	for text, want := range map[string]string{
		"6-22":                "is not a time",
		"06:00":               "is not a window",
		"06:00-25:00":         "from 00:00 to 24:00",
		"24:00-06:00":         "begins at the end",
		"06:00-06:00":         "never open",
		"Mo-Fr 06:00-22:00":   "are not days",
		"x Mon 06:00-22:00":   "is not a window",
		"06:00-22:00,":        "is not a window",
		"06:60-22:00":         "from 00:00 to 24:00",
		"06:00-22:00 Mon-Fri": "are not days",
	} {
		if _, err := ParseWindow(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"30 6 * *":              "cron expression",
		"TZ=UTC 30 6 * * *":     "write it as timezone",
		"@every 5m":             "write it as every",
		"0 0 30 2 *":            "never comes",
		"61 * * * *":            "cron expression",
		"CRON_TZ=UTC 0 0 * * *": "write it as timezone",
	} {
		if _, err := ParseCron(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := ParseWindow("06:00-22:00", "Europe/Pari"); err == nil {
		t.Error("an unknown time zone")
	}
	if _, err := ParseCron("@daily", "Local"); err == nil {
		t.Error("the machine's own time zone")
	}
}
