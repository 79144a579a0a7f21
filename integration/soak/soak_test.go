package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/runtime/api"
)

const (
	// shortest is less than any soak that says something.
	shortest = time.Minute
	// sampleEvery is the time between two samples, and fewest how many there have to be
	// at least: a short soak is sampled more often.
	sampleEvery = 10 * time.Second
	fewest      = 50
	// drainWithin bounds the time until all has arrived when nothing is put in any more.
	drainWithin = 3 * time.Minute
	// recoverWithin bounds the time until the hosts run again after a fault.
	recoverWithin = time.Minute
)

// soakFor is how long; the test is skipped without it.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	given := os.Getenv("FAIRLEAD_SOAK")
	if given == "" {
		t.Skip("takes long: give its time in FAIRLEAD_SOAK, such as 30m")
	}
	d, err := time.ParseDuration(given)
	if err != nil || d < shortest {
		t.Fatalf("FAIRLEAD_SOAK=%q: want a time of %v or more, such as 30m", given, shortest)
	}
	return d
}

func TestAClusterStaysTheSame(t *testing.T) {
	d := soakFor(t)
	o := newOutside(t)
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), recoverWithin)
	defer cancel()
	if err := c.Deploy(ctx, "soak.yaml", o.plan()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitStatus(ctx, "all hosts run", cluster.Running(movingHosts...)); err != nil {
		t.Fatal(err)
	}

	flows := o.flows()
	soak, done := context.WithTimeout(t.Context(), d)
	defer done()
	var tasks sync.WaitGroup
	for i, f := range flows {
		tasks.Go(func() {
			if err := f.feed(soak, uint64(i)); err != nil {
				t.Error(err)
			}
		})
	}
	tasks.Go(func() { outages(soak, t, o, d) })
	tasks.Go(func() { kills(soak, t, c, d) })
	samples := watch(soak, t, c, min(sampleEvery, d/fewest))
	tasks.Wait()

	drained(t, c, flows)
	for _, f := range flows {
		judge(t, f)
	}
	t.Logf("medians of the fifths of %d samples:%s", len(samples), table(samples))
	for _, finding := range growth(samples) {
		t.Error(finding)
	}
}

func startCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "fairlead")); err != nil {
		t.Fatal("bin/fairlead is missing: run `make` first")
	}
	dir, err := os.MkdirTemp("", "fl-soak-") // short, because of the sockets
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(cluster.Config{
		Binary: filepath.Join(bin, "fairlead"), Adapters: filepath.Join(bin, "adapters"), Dir: dir, Nodes: 3, Profile: "lan",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if t.Failed() {
			t.Logf("the nodes' logs are in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return c
}

// outages takes one server after the other down, eight times in all.
func outages(ctx context.Context, t *testing.T, o *outside, d time.Duration) {
	lasts := min(15*time.Second, d/40)
	down := []func(context.Context, time.Duration) error{o.ftpOutage, o.brokerOutage}
	for i := 0; ; i++ {
		pause(ctx, d/8-lasts)
		if ctx.Err() != nil {
			return
		}
		if err := down[i%len(down)](ctx, lasts); err != nil {
			t.Errorf("outage %d: a server is not back: %v", i, err)
			return
		}
		t.Logf("outage %d is over after %v", i, lasts)
	}
}

// kills kills an owner, ten times in all, and starts it again.
func kills(ctx context.Context, t *testing.T, c *cluster.Cluster, d time.Duration) {
	rng := rand.New(rand.NewPCG(1, uint64(d)))
	for {
		pause(ctx, d/10)
		if ctx.Err() != nil {
			return
		}
		host := movingHosts[rng.IntN(len(movingHosts))]
		if err := killOwner(ctx, c, host); err != nil {
			t.Error(err)
			return
		}
		t.Logf("the owner of %s was killed", host)
	}
}

// killOwner kills the owner of a host, waits for the new one, and starts the dead node
// again, whatever happens.
func killOwner(ctx context.Context, c *cluster.Cluster, host string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoverWithin)
	defer cancel()
	s, err := c.WaitStatus(ctx, host+" has an owner", cluster.OwnedBy(host, ""))
	if err != nil {
		return err
	}
	owner := c.Node(cluster.Owner(s, host))
	if err := owner.Kill(); err != nil {
		return err
	}
	_, err = c.WaitStatus(ctx, host+" has another owner", cluster.OwnedBy(host, owner.Name))
	return errors.Join(err, owner.Start())
}

// watch samples until ctx ends. Moments at which a node is down are left out.
func watch(ctx context.Context, t *testing.T, c *cluster.Cluster, every time.Duration) (samples []sample) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-tick.C:
		}
		s, err := look(ctx, c)
		switch {
		case err == nil:
			samples = append(samples, s)
		case ctx.Err() == nil && !errors.Is(err, errIncomplete):
			t.Errorf("sample: %v", err)
		}
	}
}

// drained waits until the sources are empty and no message waits for anything.
func drained(t *testing.T, c *cluster.Cluster, flows []*flow) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainWithin)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := remaining(ctx, c, flows)
		if missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%v after the last item: %s", drainWithin, missing)
			return
		case <-tick.C:
		}
	}
}

// remaining says in words what is still to be done; empty: nothing.
func remaining(ctx context.Context, c *cluster.Cluster, flows []*flow) string {
	for _, f := range flows {
		n, err := f.waiting(ctx)
		if err != nil {
			return fmt.Sprintf("%s: %v", f.name, err)
		}
		if n > 0 {
			return fmt.Sprintf("%s: %d items are still at the source", f.name, n)
		}
	}
	client, err := c.Nodes[0].Client()
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	list, err := client.Messages(ctx, api.MessageFilter{})
	if err != nil {
		return err.Error()
	}
	// What has arrived is done: a broker that confirmed to a node that died then does
	// not offer the message again, and its fate is forgotten a day later.
	left := slices.DeleteFunc(list.Messages, func(m api.Message) bool { return m.State == api.MessageDelivered })
	if len(left) > 0 {
		m := left[0]
		return fmt.Sprintf("%d messages are left, such as %s of %s: %s, %s", len(left), m.ID, m.Location, m.State, m.Reason)
	}
	return ""
}

func judge(t *testing.T, f *flow) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainWithin)
	defer cancel()
	out, err := f.out(ctx)
	if err != nil {
		t.Errorf("%s: read the destination: %v", f.name, err)
		return
	}
	t.Logf("%s: %d items in, %d out", f.name, len(f.in), len(out))
	if v := f.verdict(out); v != "" {
		t.Error(strings.TrimSpace(v))
	}
}
