package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// beyondLease is longer than the lease of the profile and the leader's wait after it.
const beyondLease = 5 * time.Second

// fault is one thing that happens to one node.
type fault struct {
	name string
	// inject does it to node i, heal ends it.
	inject, heal func(a *arena, i int) error
	// hold is how long it lasts.
	hold time.Duration
	// takeover says that an owner that it happens to has to be replaced while it
	// lasts.
	takeover bool
	// part has to exist for it, if any.
	part cluster.Part
	// leader says that it is to happen to the ledger's leader too.
	leader bool
}

// faults are all that happen to one node, which is the owner unless the dice say
// otherwise.
func faults() []fault {
	all := []fault{
		{
			name: "the runtime is killed", part: cluster.Runtime, hold: time.Second,
			inject: func(a *arena, i int) error { return a.kill(i, cluster.Runtime) }, heal: (*arena).revive,
		},
		{
			name: "the guardian is killed", part: cluster.Guardian, takeover: true,
			inject: func(a *arena, i int) error { return a.kill(i, cluster.Guardian) }, heal: (*arena).revive,
		},
		{
			name: "all processes are killed", takeover: true,
			inject: func(a *arena, i int) error { return a.c.Nodes[i].Kill() }, heal: (*arena).revive,
		},
		{
			name: "the plugin is killed", part: cluster.Plugin,
			inject: func(a *arena, i int) error { return a.kill(i, cluster.Plugin) }, heal: (*arena).nothing,
		},
	}
	for _, part := range []cluster.Part{cluster.Runtime, cluster.Guardian, cluster.Plugin} {
		all = append(all, fault{
			name: "the " + string(part) + " is frozen for longer than the lease", part: part, hold: beyondLease,
			takeover: part == cluster.Runtime,
			inject:   func(a *arena, i int) error { return a.freeze(i, part) }, heal: (*arena).revive,
		})
	}
	return append(all,
		fault{
			name: "the whole node is frozen for longer than the lease", leader: true, takeover: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return a.c.Nodes[i].Freeze() }, heal: (*arena).revive,
		},
		fault{
			name: "the cable is pulled", takeover: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return a.net.unplug(i) },
			heal:   func(a *arena, i int) error { return errors.Join(a.net.plug(i), a.revive(i)) },
		},
		fault{
			name: "what it sends is lost", leader: true, takeover: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return a.net.lose(i, true) },
			heal:   func(a *arena, i int) error { return errors.Join(a.net.found(i, true), a.revive(i)) },
		},
		fault{
			name: "what is sent to it is lost", leader: true, takeover: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return a.net.lose(i, false) },
			heal:   func(a *arena, i int) error { return errors.Join(a.net.found(i, false), a.revive(i)) },
		},
		fault{
			name: "it is cut off from the nodes but not from the server", takeover: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return a.net.estrange(i) },
			heal:   func(a *arena, i int) error { return errors.Join(a.net.reconcile(i), a.revive(i)) },
		},
		fault{
			name: "its link is slow and loses packets", leader: true, hold: beyondLease,
			inject: func(a *arena, i int) error {
				return a.net.slowDown(i, quality{delay: 80 * time.Millisecond, jitter: 40 * time.Millisecond, loss: 0.05, seed: a.rng.Uint64()})
			},
			heal: func(a *arena, i int) error { return errors.Join(a.net.speedUp(i), a.revive(i)) },
		},
		fault{
			name: "its disk is full", leader: true, hold: beyondLease,
			inject: func(a *arena, i int) error { return fill(a.filler(i)) },
			heal:   func(a *arena, i int) error { return errors.Join(os.Remove(a.filler(i)), a.revive(i)) },
		},
	)
}

func (a *arena) nothing(int) error { return nil }

// kill kills the node's processes of one part.
func (a *arena) kill(i int, part cluster.Part) error {
	pids, err := a.c.Nodes[i].SignalParts(unix.SIGKILL, part)
	if err != nil {
		return err
	}
	return cluster.Gone(pids, askWithin)
}

func (a *arena) freeze(i int, part cluster.Part) error { return a.c.Nodes[i].Freeze(part) }

// revive lets what is frozen go on and starts a node that has ended, as its service
// manager would.
func (a *arena) revive(i int) error {
	n := a.c.Nodes[i]
	if n.PID() != 0 {
		if err := n.Thaw(); err != nil && n.PID() != 0 {
			return err
		}
	}
	// One that is about to end is no reason to start another.
	if n.PID() == 0 {
		return n.Start()
	}
	return nil
}

// filler is the file that takes the room on node i's disk.
func (a *arena) filler(i int) string { return filepath.Join(a.c.Nodes[i].Dir, "data", "filler") }

// fill writes to the file until the disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for len(block) > 0 && err == nil {
		_, err = f.Write(block)
		if errors.Is(err, unix.ENOSPC) { // and then to the last byte
			err, block = nil, block[:len(block)/2]
		}
	}
	return errors.Join(err, f.Close())
}

// strike does one fault to node i, sees that another takes over where one must, and
// heals it. It returns what happened in words.
func (a *arena) strike(ctx context.Context, f fault, i int) (string, error) {
	owner, _, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	if err := f.inject(a, i); err != nil {
		return "", errors.Join(fmt.Errorf("%s, %s: %w", a.c.Nodes[i].Name, f.name, err), f.heal(a, i))
	}
	began := time.Now()
	story := fmt.Sprintf("%s: %s", a.c.Nodes[i].Name, f.name)
	if f.takeover && owner == i {
		to, took, err := a.takenOver(ctx, []int{i})
		if err != nil {
			return story, errors.Join(err, f.heal(a, i))
		}
		story += fmt.Sprintf("; %s runs %s after %d ms", a.c.Nodes[to].Name, host, took.Milliseconds())
	}
	pause(ctx, f.hold-time.Since(began))
	if err := f.heal(a, i); err != nil {
		return story, fmt.Errorf("heal %q of %s: %w", f.name, a.c.Nodes[i].Name, err)
	}
	return story, nil
}

// pause lets a fault last: its length is the test's input, not something to be
// waited for.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
