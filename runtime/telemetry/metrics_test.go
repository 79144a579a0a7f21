package telemetry

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files anew")

// busy is a snapshot with something of everything.
func busy() Snapshot {
	return Snapshot{
		Node: "node-a", Leader: true, Quorum: true, LeaseSeconds: 1.25,
		Groups: []GroupSample{
			{Name: "edi", Owner: "node-a", Owners: 1, Acting: true, Epoch: 4, Changes: map[string]uint64{"death": 2, "move": 1}},
			{Name: "mail", Owners: 0, Epoch: 9, SinceOwnedSeconds: 31.5, Changes: map[string]uint64{"failure": 3}, Failed: true},
		},
		Nodes: map[string]string{"node-a": "alive", "node-b": "dead"},
		Locations: []LocationSample{
			{Name: "supplier-orders", State: "backing-off", Received: 812, InFlight: 3, InDoubt: 2, Suspended: 1, Held: 7, Settling: 5},
		},
		Ports:         []PortSample{{Name: "erp", Sent: 811, Retrying: 4, Down: true}},
		LeaseRenewals: 1000, LeaseRenewalFailures: 2, LeaseLost: 1,
		LastTakeoverSeconds: map[string]float64{"edi": 0.042},
	}
}

// scrape returns the status and the lines of this package's own metrics.
func scrape(t *testing.T, h http.Handler) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var own strings.Builder
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "fairlead_") {
			own.WriteString(line)
		}
	}
	return w.Code, own.String()
}

// People's alerts and dashboards rest on these lines: a change here is a change for
// them.
func TestPageOfMetrics(t *testing.T) {
	_, got := scrape(t, NewMetrics(busy))
	path := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMetricsKeepTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(newRegistry(busy))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEveryFamilyHasASample(t *testing.T) {
	_, page := scrape(t, NewMetrics(busy))
	if got := strings.Count(page, "# TYPE "); got != len(families) {
		t.Errorf("%d families are on the page, want %d", got, len(families))
	}
}

func TestOneScrapeTakesOneSnapshot(t *testing.T) {
	var taken atomic.Int32
	h := NewMetrics(func() Snapshot { taken.Add(1); return busy() })
	if got := taken.Load(); got != 0 {
		t.Errorf("%d snapshots before the first scrape", got)
	}
	for scrapes := range int32(3) {
		scrape(t, h)
		if got := taken.Load(); got != scrapes+1 {
			t.Errorf("%d snapshots in %d scrapes", got, scrapes+1)
		}
	}
}

func TestWhatIsGoneIsNotShown(t *testing.T) {
	s := busy()
	h := NewMetrics(func() Snapshot { return s })
	scrape(t, h)
	s = Snapshot{Node: "node-a"}
	if _, page := scrape(t, h); strings.Contains(page, "edi") || strings.Contains(page, "supplier-orders") {
		t.Errorf("metrics of what is gone:\n%s", page)
	}
}

func TestStateThatIsNewIsShown(t *testing.T) {
	s := Snapshot{Nodes: map[string]string{"node-a": "asleep"}}
	_, page := scrape(t, NewMetrics(func() Snapshot { return s }))
	if !strings.Contains(page, `fairlead_node_state{node="node-a",state="asleep"} 1`) ||
		!strings.Contains(page, `fairlead_node_state{node="node-a",state="alive"} 0`) {
		t.Errorf("got\n%s", page)
	}
}

func TestOneBadNameDoesNotHideTheRest(t *testing.T) {
	s := busy()
	s.Ports = append(s.Ports, PortSample{Name: "\xff"})
	s.Groups = append(s.Groups, s.Groups[0]) // the same twice
	code, page := scrape(t, NewMetrics(func() Snapshot { return s }))
	if code != http.StatusOK || !strings.Contains(page, `fairlead_port_sent_total{port="erp"} 811`) ||
		!strings.Contains(page, "fairlead_cluster_quorum 1") {
		t.Errorf("got %d\n%s", code, page)
	}
}

func TestNodesInOneProcessDoNotMix(t *testing.T) {
	a := NewMetrics(func() Snapshot { return Snapshot{Node: "node-a"} })
	b := NewMetrics(func() Snapshot { return Snapshot{Node: "node-b"} })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { scrape(t, a) })
	}
	wg.Wait()
	if _, page := scrape(t, b); strings.Contains(page, "node-a") || !strings.Contains(page, "node-b") {
		t.Errorf("got\n%s", page)
	}
}

func TestProcessAndRuntimeAreShown(t *testing.T) {
	families, err := newRegistry(busy).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	// process_... is there on some platforms only.
	if !slices.Contains(names, "go_goroutines") {
		t.Errorf("go_goroutines is not among %q", names)
	}
}

// alertRules is the part of a rules file that is looked at.
type alertRules struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// The expressions themselves are checked by promtool; here, that they speak of what
// a node tells.
func TestSampleAlertsSpeakOfMetricsThatExist(t *testing.T) {
	data, err := os.ReadFile("../../configs/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file alertRules
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	_, page := scrape(t, NewMetrics(busy))
	name := regexp.MustCompile(`fairlead_[a-z_]+`)
	seen := map[string]bool{}
	for _, r := range file.Groups[0].Rules {
		if r.Alert == "" || seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("alert %q lacks its name, severity, summary or description, or is there twice", r.Alert)
		}
		seen[r.Alert] = true
		used := name.FindAllString(r.Expr, -1)
		if len(used) == 0 {
			t.Errorf("%s asks for no metric: %s", r.Alert, r.Expr)
		}
		for _, metric := range used {
			if !strings.Contains(page, "# TYPE "+metric+" ") {
				t.Errorf("%s asks for %s, which no node tells", r.Alert, metric)
			}
		}
		if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") {
			t.Errorf("%s: brackets do not match: %s", r.Alert, r.Expr)
		}
	}
	if len(seen) < 5 {
		t.Errorf("got %d alerts, want at least 5", len(seen))
	}
}
