package main

import (
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// settledAfter is how long after a file was first seen the answer about its
	// time is trusted without asking again: LIST cannot show a change within the
	// minute that it names, and after this time that minute is over.
	settledAfter = 90 * time.Second
	// oldEnough is the age by LIST beyond which that minute is over whatever the
	// time zone of the server's listings.
	oldEnough = 26 * time.Hour
	// coldAfter is more than the second that MDTM is precise to.
	coldAfter = 2 * time.Second
)

// timeBook remembers the exact times of the files in a directory whose listing
// names them to the minute, or only the day when they are older than half a
// year. Keys need the exact time: the same on every node, at every age of the
// file. MDTM tells it, for one command per file, so it is asked once per file
// and version (name, size and time as listed), and again only as long as a
// change could hide behind the same listing.
//
// Where the server has neither MLSD nor MDTM the listed time stays.
type timeBook struct {
	now func() time.Time

	mu    sync.Mutex
	round int                  // counts the listings
	known map[string]knownTime // by name
	taken map[string]taking    // files being read or settled: looked at again then anyway
}

// taking is what is known of a file that was opened.
type taking struct {
	size  int64
	exact time.Time
	// cold says that its time was known for coldAfter when the reading began, so
	// that whoever writes to it later gives it another time, even in whole seconds.
	cold bool
	// whole says that it was read to the end and had its size.
	whole bool
}

type knownTime struct {
	size   int64
	listed time.Time
	exact  time.Time
	// By this machine's clock: when the file was first seen like this, when its
	// exact time was first and when it was last answered as it is.
	since, exactSince, asked time.Time
	round                    int // of the last listing that had it
}

func newTimeBook() *timeBook {
	return &timeBook{now: time.Now, known: map[string]knownTime{}, taken: map[string]taking{}}
}

// answer is what a server says of a file's time: zero if it does not know, not
// exists if the file is not there.
type answer struct {
	modified time.Time
	exists   bool
}

// asker tells the times of files, in their order. It is called from a goroutine of
// its own, several times.
type asker func(files []file) ([]answer, error)

// askChunk is how many files an asker is given at once.
const askChunk = 50

// complete replaces the imprecise times among the files by exact ones and
// returns the names of those that the server has nothing to say of; the others
// stay in files. Its cost is one command per new file, and askers share the work.
func (b *timeBook) complete(askers []asker, files []file) (kept []file, refused []string, err error) {
	now := b.now()
	var unknown []int
	for i, f := range files {
		if f.precise {
			continue
		}
		if exact, ok := b.lookup(f); ok {
			files[i].setExact(exact)
			continue
		}
		unknown = append(unknown, i)
	}
	missing, err := b.ask(askers, files, unknown, now)
	if err != nil {
		return nil, nil, err
	}
	for i, f := range files {
		if missing[i] {
			refused = append(refused, f.name)
		} else {
			kept = append(kept, f)
		}
	}
	b.prune()
	return kept, refused, nil
}

// ask finds out the times of the files with the given indexes.
func (b *timeBook) ask(askers []asker, files []file, unknown []int, now time.Time) (missing map[int]bool, err error) {
	missing = map[int]bool{}
	var mu sync.Mutex // guards unknown and missing
	share := min(askChunk, (len(unknown)+len(askers)-1)/len(askers))
	draw := func() []int {
		mu.Lock()
		defer mu.Unlock()
		n := min(share, len(unknown))
		drawn := unknown[:n]
		unknown = unknown[n:]
		return drawn
	}
	var workers errgroup.Group
	for _, ask := range askers {
		// Each has its first share before any begins: a quick one would else be done
		// with all before another has started.
		first := draw()
		workers.Go(func() error {
			for chunk := first; len(chunk) > 0; chunk = draw() {
				gone, err := b.askOne(ask, files, chunk, now)
				if err != nil {
					return err
				}
				mu.Lock()
				for _, i := range gone {
					missing[i] = true
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return missing, workers.Wait()
}

// askOne asks one asker for some of the files, and returns which are not there.
func (b *timeBook) askOne(ask asker, files []file, chunk []int, now time.Time) (missing []int, err error) {
	asked := make([]file, len(chunk))
	for at, i := range chunk {
		asked[at] = files[i]
	}
	answers, err := ask(asked)
	if err != nil {
		return nil, err
	}
	for at, i := range chunk {
		if !answers[at].exists {
			missing = append(missing, i)
			continue
		}
		b.learn(files[i], answers[at].modified, now)
		files[i].setExact(answers[at].modified)
	}
	return missing, nil
}

func (f *file) setExact(t time.Time) {
	if !t.IsZero() {
		f.modified, f.precise = t, true
	}
}

// lookup returns the exact time if it cannot have changed since it was learned.
func (b *timeBook) lookup(f file) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.known[f.name]
	if !ok || k.size != f.size || !k.listed.Equal(f.modified) {
		return time.Time{}, false
	}
	// The last answer counts for good if the minute that the listing names was
	// over when it was given. (A listing without any time shows no change at all.)
	over := !k.listed.IsZero() && (k.asked.Sub(k.since) >= settledAfter || k.asked.Sub(k.listed) >= oldEnough)
	if _, taken := b.taken[f.name]; !over && !taken {
		return time.Time{}, false
	}
	k.round = b.round
	b.known[f.name] = k
	return k.exact, true
}

func (b *timeBook) learn(f file, exact, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	since, exactSince := now, now
	if k, ok := b.known[f.name]; ok && k.size == f.size && k.listed.Equal(f.modified) {
		since = k.since
		if k.exact.Equal(exact) {
			exactSince = k.exactSince
		}
	}
	b.known[f.name] = knownTime{size: f.size, listed: f.modified, exact: exact, since: since, exactSince: exactSince, asked: now, round: b.round}
}

// prune forgets what the last listing did not have.
func (b *timeBook) prune() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, k := range b.known {
		if k.round != b.round {
			delete(b.known, name)
		}
	}
	for name := range b.taken {
		if _, listed := b.known[name]; !listed {
			delete(b.taken, name)
		}
	}
	b.round++
}

// take says that the file is being read: until untake or forget its time is not
// asked again.
func (b *timeBook) take(f *file) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.known[f.name]
	cold := ok && k.exact.Equal(f.modified) && b.now().Sub(k.exactSince) >= coldAfter
	b.taken[f.name] = taking{size: f.size, exact: f.modified, cold: cold}
}

// readWhole says that the file taken was read to the end.
func (b *timeBook) readWhole(f *file) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t, ok := b.taken[f.name]; ok {
		t.whole = true
		b.taken[f.name] = t
	}
}

// timeTells reports whether the time alone tells if this is still the version
// that was read here.
func (b *timeBook) timeTells(f *file) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.taken[f.name]
	return ok && t.whole && t.cold && t.size == f.size && t.exact.Equal(f.modified)
}

func (b *timeBook) untake(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, name)
}

// forget makes the next listing ask again: the file is not what we thought.
func (b *timeBook) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, name)
	delete(b.known, name)
}
