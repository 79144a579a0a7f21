package files

import "sync"

// madeMax bounds the memory of Made. What is forgotten is looked for once more.
const madeMax = 1000

// Made remembers the directories that a send port has found or made, so that not every
// message asks for them. The zero value is ready; several goroutines may use it.
type Made struct {
	mu    sync.Mutex
	known map[string]bool
}

// Ensure calls ensure unless the directory is known.
func (k *Made) Ensure(dir string, ensure func() error) error {
	k.mu.Lock()
	known := k.known[dir]
	k.mu.Unlock()
	if known {
		return nil
	}
	if err := ensure(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil || len(k.known) >= madeMax {
		k.known = map[string]bool{}
	}
	k.known[dir] = true
	return nil
}

// Forget has the directories looked for again: something went wrong in them.
func (k *Made) Forget(dirs ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, dir := range dirs {
		delete(k.known, dir)
	}
}
