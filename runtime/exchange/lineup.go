package exchange

import (
	"slices"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// candidate is an item that the source has, and that may need something.
type candidate struct {
	item    *adapterpb.Item
	content *adapterpb.Content // that came with the offer; nil: it has to be taken
	pushed  bool
	lane    string // what it is ordered by
}

// lineup keeps candidates in the order in which the source gave them. In an ordered
// one only one of each lane is out at a time. While the lane is held by items, only
// they may go.
type lineup struct {
	ordered bool
	free    []candidate // unordered
	lanes   map[string]*lane
	ready   []*lane // that have one to send out
}

type lane struct {
	key     string
	waiting []candidate
	out     bool
	holders map[string]bool // keys of items that hold what comes after them
	queued  bool
}

// mayGo reports whether the lane's first may be sent out.
func (l *lane) mayGo() bool {
	return !l.out && len(l.waiting) > 0 && (len(l.holders) == 0 || l.holders[l.waiting[0].item.GetKey()])
}

func newLineup(ordered bool) *lineup { return &lineup{ordered: ordered, lanes: map[string]*lane{}} }

func (q *lineup) add(c candidate) {
	if !q.ordered {
		q.free = append(q.free, c)
		return
	}
	l := q.lane(c.lane)
	if l.holders[c.item.GetKey()] {
		l.waiting = slices.Insert(l.waiting, 0, c)
	} else {
		l.waiting = append(l.waiting, c)
	}
	q.enqueue(l)
}

// next takes out the first candidate that may go.
func (q *lineup) next() (c candidate, ok bool) {
	if !q.ordered {
		if len(q.free) == 0 {
			return c, false
		}
		c, q.free = q.free[0], q.free[1:]
		return c, true
	}
	for len(q.ready) > 0 {
		l := q.ready[0]
		q.ready, l.queued = q.ready[1:], false
		if !l.mayGo() {
			continue
		}
		c, l.waiting, l.out = l.waiting[0], l.waiting[1:], true
		return c, true
	}
	return c, false
}

// done lets the lane's next candidate go.
func (q *lineup) done(key string) {
	if !q.ordered {
		return
	}
	l := q.lane(key)
	l.out = false
	q.enqueue(l)
}

// hold has an item hold its lane, or not any more.
func (q *lineup) hold(lane, key string, on bool) {
	l := q.lane(lane)
	if on {
		l.holders[key] = true
	} else {
		delete(l.holders, key)
	}
	q.enqueue(l)
}

// held is how many candidates wait behind an item that holds their lane.
func (q *lineup) held() (n int) {
	for _, l := range q.lanes {
		if len(l.holders) > 0 {
			n += len(l.waiting)
		}
	}
	return n
}

// clear forgets who waits: the source has given another list.
func (q *lineup) clear() {
	q.free, q.ready = nil, nil
	for key, l := range q.lanes {
		l.waiting, l.queued = nil, false
		q.drop(key, l)
	}
}

func (q *lineup) lane(key string) *lane {
	l := q.lanes[key]
	if l == nil {
		l = &lane{key: key, holders: map[string]bool{}}
		q.lanes[key] = l
	}
	return l
}

func (q *lineup) enqueue(l *lane) {
	if l.mayGo() && !l.queued {
		l.queued = true
		q.ready = append(q.ready, l)
	}
	q.drop(l.key, l)
}

// drop forgets a lane that says nothing any more.
func (q *lineup) drop(key string, l *lane) {
	if !l.out && !l.queued && len(l.holders) == 0 && len(l.waiting) == 0 {
		delete(q.lanes, key)
	}
}
