package files

import (
	"context"
	"sync"
)

// Turns lets those who append to the same file do so one after the other. The zero value
// is ready; several goroutines may use it.
type Turns struct {
	mu    sync.Mutex
	files map[string]*turn
}

type turn struct {
	token chan struct{} // holds the token while nobody has the turn
	users int           // have the turn or wait for it
}

// Take waits for the turn at a file, or for the end of ctx. done must be called when it
// is over.
func (t *Turns) Take(ctx context.Context, file string) (done func(), err error) {
	at := t.join(file)
	select {
	case <-at.token:
		return func() {
			at.token <- struct{}{}
			t.leave(file)
		}, nil
	case <-ctx.Done():
		t.leave(file)
		return nil, context.Cause(ctx)
	}
}

func (t *Turns) join(file string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.files[file]
	if at == nil {
		if t.files == nil {
			t.files = map[string]*turn{}
		}
		at = &turn{token: make(chan struct{}, 1)}
		at.token <- struct{}{}
		t.files[file] = at
	}
	at.users++
	return at
}

func (t *Turns) leave(file string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[file].users--; t.files[file].users == 0 {
		delete(t.files, file)
	}
}
