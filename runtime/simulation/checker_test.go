package simulation

import (
	"hash/fnv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// checker knows the rules (DESIGN, section 5). The world's lock guards it.
type checker struct {
	w     *world
	terms map[string][]term // by group, in order
	acted map[string]term   // the newest term that has acted, by group
	acts  int
	fates map[string]known // by item, of what the first replica to apply it saw
	// answers and sums are what the first replica made of an entry; the others must
	// make the same of it.
	answers map[uint64]string
	sums    map[uint64]uint64
	seen    uint64 // the last index that some replica has applied
	// expiries and handed count what took-overs cost.
	expiries, assigns int
	// lost is when the voters lost their majority; negative while they have it.
	lost   time.Duration
	healed time.Duration
}

// term is one owner of a group.
type term struct {
	index, epoch uint64
	incarnation  string
}

// known is how far an item is known to have come.
type known struct {
	state pb.Fate_State
	index uint64
}

func newChecker(w *world) *checker {
	return &checker{
		w: w, terms: map[string][]term{}, acted: map[string]term{}, fates: map[string]known{},
		answers: map[uint64]string{}, sums: map[uint64]uint64{}, lost: -1,
	}
}

// sumEvery is how many entries apart replicas are compared as a whole.
const sumEvery = 64

// applied is told of every entry by every replica, right after it was applied.
func (c *checker) applied(p *process, index uint64, cmd *pb.Command, err error) {
	answer := "done"
	if err != nil {
		answer = err.Error()
	}
	p.n.w.mu.Lock()
	l := p.ledger
	p.n.w.mu.Unlock()
	l.View(func(s *pb.State) {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		if first := c.sameLocked(p, s, index, answer); !first {
			return
		}
		c.seen = index
		switch k := cmd.GetKind().(type) {
		case *pb.Command_Grant:
			return
		case *pb.Command_Fates:
			c.fencedLocked(s, index, k.Fates, err)
			return
		case *pb.Command_Expire:
			c.expiries++
		case *pb.Command_Assign:
			c.assigns++
		}
		c.w.noteLocked("entry %d %T: %s", index, cmd.GetKind(), answer)
		c.termsLocked(s, index)
	})
}

// sameLocked compares what two replicas made of an entry, and reports whether this
// is the first.
func (c *checker) sameLocked(p *process, s *pb.State, index uint64, answer string) bool {
	was, seen := c.answers[index]
	switch {
	case !seen && index <= c.seen:
		c.w.failLocked("%s applied entry %d, which another replica does not have", p.name, index)
	case !seen:
		c.answers[index] = answer
	case was != answer:
		c.w.failLocked("entry %d: %s says %q, another replica %q", index, p.name, answer, was)
	}
	if index%sumEvery == 0 {
		sum := sumOf(s)
		if was, ok := c.sums[index]; ok && was != sum {
			c.w.failLocked("the replica of %s differs at entry %d", p.name, index)
		}
		c.sums[index] = sum
	}
	return !seen
}

func sumOf(s *pb.State) uint64 {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		panic("simulation: " + err.Error())
	}
	h := fnv.New64a()
	h.Write(data)
	return h.Sum64()
}

// termsLocked follows the owners: epochs grow by one, and none comes twice.
func (c *checker) termsLocked(s *pb.State, index uint64) {
	for _, name := range c.w.groups {
		g := s.GetGroups()[name]
		terms := c.terms[name]
		var last term
		if len(terms) > 0 {
			last = terms[len(terms)-1]
		}
		if g == nil || g.Epoch == last.epoch && g.Incarnation == last.incarnation {
			continue
		}
		if g.Epoch != last.epoch+1 {
			c.w.failLocked("entry %d: %s went from %q under epoch %d to %q under %d", index, name, last.incarnation, last.epoch, g.Incarnation, g.Epoch)
		}
		c.terms[name] = append(terms, term{index, g.Epoch, g.Incarnation})
		c.w.noteLocked("entry %d: %s belongs to %q under %d: %s", index, name, g.Incarnation, g.Epoch, g.Reason)
	}
}

// fencedLocked checks that fates were committed by the owner of that moment.
func (c *checker) fencedLocked(s *pb.State, index uint64, b *pb.FateBatch, err error) {
	if err != nil {
		return
	}
	g := s.GetGroups()[b.GetGroup()]
	session := s.GetSessions()[b.GetIncarnation()]
	if g.GetEpoch() != b.GetEpoch() || g.GetIncarnation() != b.GetIncarnation() || session == nil || session.Expired {
		c.w.failLocked("entry %d: fates of %s under epoch %d of %s, which is with %q under %d", index, b.GetGroup(), b.GetEpoch(), b.GetIncarnation(), g.GetIncarnation(), g.GetEpoch())
	}
	for _, change := range b.GetChanges() {
		f := s.GetLocations()[change.GetLocation()].GetFates()[change.GetKey()]
		// The ID tells who made it, whatever the entry says.
		if id := change.GetIntend().GetMessageId(); id != "" && f.GetMessageId() == id && c.fates[change.GetKey()].index == 0 &&
			!strings.HasSuffix(id, by(g.GetIncarnation(), g.GetEpoch())) {
			c.w.failLocked("entry %d: %q is the message of item %s, which is with %q under %d", index, id, change.GetKey(), g.GetIncarnation(), g.GetEpoch())
		}
		if was := c.fates[change.GetKey()]; f != nil && f.State < was.state {
			c.w.failLocked("entry %d: item %s went back from %v to %v", index, change.GetKey(), was.state, f.State)
		}
		c.fates[change.GetKey()] = known{f.GetState(), index}
		if f == nil {
			delete(c.fates, change.GetKey())
		}
	}
}

// committed checks, from outside the ledger, that whoever was told that its fates
// are committed was the owner at that entry.
func (c *checker) committed(k *work, index uint64) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	at := c.termAt(k.tenure.Group, index)
	if at.epoch != k.tenure.Epoch || at.incarnation != k.tenure.Incarnation {
		c.w.failLocked("entry %d took fates of %s from %s under epoch %d, when it was with %q under %d", index, k.tenure.Group, k.tenure.Incarnation, k.tenure.Epoch, at.incarnation, at.epoch)
	}
}

func (c *checker) termAt(group string, index uint64) (at term) {
	for _, t := range c.terms[group] {
		if t.index <= index {
			at = t
		}
	}
	return at
}

// begins checks that a new owner's replica has its assignment, and with it all that
// earlier owners did.
func (c *checker) begins(k *work) {
	k.p.ledger.View(func(s *pb.State) {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		c.w.noteLocked("%s begins %s under %d", k.tenure.Incarnation, k.tenure.Group, k.tenure.Epoch)
		if s.GetGroups()[k.tenure.Group].GetEpoch() < k.tenure.Epoch {
			c.w.failLocked("%s acts for %s under epoch %d, of which its replica knows nothing", k.tenure.Incarnation, k.tenure.Group, k.tenure.Epoch)
		}
		for item, f := range c.fates {
			if !belongs(item, k.tenure.Group) || f.index > s.GetIndex() && c.termAt(k.tenure.Group, f.index).epoch >= k.tenure.Epoch {
				continue
			}
			if got := s.GetLocations()[location(k.tenure.Group)].GetFates()[item]; got.GetState() < f.state {
				c.w.failLocked("%s begins %s and takes item %s for %v; it is %v since entry %d", k.tenure.Incarnation, k.tenure.Group, item, got.GetState(), f.state, f.index)
			}
		}
		k.n.works = append(k.n.works, k)
		c.exclusiveLocked(k)
	})
}

func belongs(item, group string) bool {
	return len(item) > len(group) && item[:len(group)] == group && item[len(group)] == '/'
}

// exclusiveLocked checks that nobody else may act for the group at this instant.
func (c *checker) exclusiveLocked(k *work) {
	if !k.mayActLocked() {
		return
	}
	for _, n := range c.w.nodes {
		for _, other := range n.works {
			if other != k && other.tenure.Group == k.tenure.Group && other.mayActLocked() {
				c.w.failLocked("%s may act for %s under epoch %d, and %s under %d for another %v", k.tenure.Incarnation, k.tenure.Group,
					k.tenure.Epoch, other.tenure.Incarnation, other.tenure.Epoch, other.deadline.Sub(n.clock()))
			}
		}
	}
}

// actsLocked checks one act.
func (c *checker) actsLocked(k *work, what string) {
	c.acts++
	k.acted = c.w.now()
	now := term{epoch: k.tenure.Epoch, incarnation: k.tenure.Incarnation}
	was := c.acted[k.tenure.Group]
	if now.epoch < was.epoch || now.epoch == was.epoch && now.incarnation != was.incarnation {
		c.w.failLocked("%s does a %s for %s under epoch %d after %s has acted under %d", now.incarnation, what, k.tenure.Group, now.epoch, was.incarnation, was.epoch)
	}
	if now.epoch >= was.epoch {
		c.acted[k.tenure.Group] = now
	}
	// The last grant was committed before the majority was lost, and asked for
	// before that.
	if most := ttl*1000/955 + time.Millisecond; c.lost >= 0 && c.w.now()-c.lost > most {
		c.w.failLocked("%s does a %s for %s, and the majority is lost for %v", now.incarnation, what, k.tenure.Group, c.w.now()-c.lost)
	}
}

// quorumLocked notes whether some voter can exchange messages with a majority. It
// is called at every change of the network, and of what is up.
func (w *world) quorumLocked() {
	for _, a := range w.nodes[:w.voters] {
		reach := 0
		for _, b := range w.nodes[:w.voters] {
			up := b.p != nil && !b.p.frozen()
			if up && (a == b || w.net.blocked[a.id][b.id] == 0 && w.net.blocked[b.id][a.id] == 0) {
				reach++
			}
		}
		if up := a.p != nil && !a.p.frozen(); up && reach*2 > w.voters {
			w.check.lost = -1
			return
		}
	}
	if w.check.lost < 0 {
		w.check.lost = w.now()
	}
}

// changed has the majority counted again.
func (w *world) changed(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
	w.quorumLocked()
}

// atWork reports whether every group is owned by somebody who has acted since the
// given moment, under the newest epoch.
func (w *world) atWork(since time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.groups {
		terms := w.check.terms[g]
		if len(terms) == 0 || !w.heldLocked(g, terms[len(terms)-1], since) {
			return false
		}
	}
	return true
}

// owner is a node that works for the group, nil if there is none.
func (w *world) owner(group string) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		for _, k := range n.works {
			if k.tenure.Group == group && n.p == k.p {
				return n
			}
		}
	}
	return nil
}

func (w *world) heldLocked(group string, t term, since time.Duration) bool {
	for _, n := range w.nodes {
		for _, k := range n.works {
			if k.tenure.Group == group && k.tenure.Epoch == t.epoch && k.tenure.Incarnation == t.incarnation &&
				k.mayActLocked() && !k.draining && (w.idle || k.acted >= since) {
				return true
			}
		}
	}
	return false
}

// same checks that all replicas come to the same state.
func (w *world) same() {
	first := w.nodes[0].process()
	for _, n := range w.nodes[1:] {
		w.until(4*time.Second, "a moment at which "+n.name+" has what the first node has", func() (met bool) {
			p := n.process()
			if first == nil || p == nil {
				return false
			}
			first.ledger.View(func(a *pb.State) {
				p.ledger.View(func(b *pb.State) {
					met = a.GetIndex() == b.GetIndex()
					if met && !proto.Equal(a, b) {
						w.fail("the replicas of %s and %s differ at entry %d", first.name, p.name, a.GetIndex())
					}
				})
			})
			return met
		})
	}
}
