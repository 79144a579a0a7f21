package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
)

// claimPrefix and claimSuffix are around the names of claimed files. They do not begin
// with a dot: FTP servers such as vsftpd do not list names that do, and a dead owner's
// claims would never be seen again. The suffix keeps them out of other programs' patterns.
const (
	claimPrefix = "fairlead-claim-"
	claimSuffix = ".claim"
)

// Claims takes files by renaming them, in their directory, to a name that is unique to
// the location, the owner's epoch and the version of the file:
//
//	fairlead-claim-LOCATION-EPOCH-VERSION-NAME.claim
//
// Of two who rename the same file one finds it gone, whatever the protocol. A writer
// that writes to the old name makes a new file and does not touch the one that is
// read. And a former owner that wakes up late can delete only what bears its own epoch,
// while its successor has adopted the file: renamed it to a name with a later one.
//
// A command that a former owner gave just before its end may reach the server after its
// successor has looked. So no file is gone while its name is in a claim of the location
// (see [Claims.Hold]), and no listing is complete that lacks what was there before, nor
// the first one: it is made twice (see [Claims.Steady]).
//
// The zero value is of no use. Its methods may be called by several goroutines.
type Claims struct {
	location string
	epoch    uint64

	mu sync.Mutex
	// made are claims of this process that are not settled: whoever has an older listing
	// in hand knows the file by its former name.
	made map[string]bool
	// seen are the paths in the last listing that were not settled since; nil before it.
	seen map[string]bool
}

// claimsMax bounds what is remembered of files that somebody else took away, after they
// were claimed and before they were settled. What is forgotten is found by the next
// listing.
const claimsMax = 100_000

// NewClaims returns the claims of one receive location under one owner.
func NewClaims(env sdk.Env) *Claims {
	sum := sha256.Sum256([]byte(env.Cluster + "\x00" + env.Endpoint))
	return &Claims{location: hex.EncodeToString(sum[:4]), epoch: env.Epoch, made: map[string]bool{}}
}

// Path is where a file has to be before it is read: name is its path in the location's
// directory, key what tells this version of it from others. Errors are [sdk.Permanent].
func (c *Claims) Path(name, key string) (string, error) {
	dir, base := path.Split(name)
	claimed := claim{c.location, c.epoch, versionOf(key), base}.String()
	if len(claimed) > nameMax {
		return "", sdk.Permanent(fmt.Errorf("the name %q is %d bytes too long to be claimed by a rename: give the file a shorter one, or set claim: false", base, len(claimed)-nameMax))
	}
	return dir + claimed, nil
}

// Made notes that the file was renamed to this path.
func (c *Claims) Made(claimed string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for some := range c.made {
		if len(c.made) < claimsMax {
			break
		}
		delete(c.made, some)
	}
	c.made[claimed] = true
}

// Forget notes that the file is settled, or gone.
func (c *Claims) Forget(name, key string) {
	claimed, err := c.Path(name, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil { // else it cannot have been claimed
		delete(c.made, claimed)
	}
	delete(c.seen, name)
}

// Hold reports whether this version of a file is among the names of its directory under
// a claim of this location, whoever made it: then it is not gone, whatever an earlier
// look has said, and has to be looked for again. name is the file's path.
func (c *Claims) Hold(names iter.Seq[string], name, key string) bool {
	for there := range names {
		made, ok := parse(there)
		if ok && made.location == c.location && made.version == versionOf(key) && made.name == path.Base(name) {
			return true
		}
	}
	return false
}

// Steady returns what list returns, which it calls once more if files are missing that
// were there before, or nothing is known of before: a directory that is read while a
// file in it is renamed may show neither of its names.
func Steady[T any](c *Claims, list func() ([]T, error), of func(T) File) ([]T, error) {
	listed, err := list()
	if err != nil || !c.misses(pathsOf(listed, of)) {
		return listed, err
	}
	again, err := list()
	if err != nil {
		return nil, err
	}
	there := make(map[File]bool, len(again))
	for _, l := range again {
		there[identity(of(l))] = true
	}
	for _, l := range listed {
		if !there[identity(of(l))] {
			again = append(again, l)
		}
	}
	c.misses(pathsOf(again, of))
	return again, nil
}

// identity is a file without where it is.
func identity(f File) File {
	f.Claimed, f.Modified = false, f.Modified.UTC().Round(0)
	return f
}

func pathsOf[T any](listed []T, of func(T) File) map[string]bool {
	paths := make(map[string]bool, len(listed))
	for _, l := range listed {
		paths[of(l).Name] = true
	}
	return paths
}

// misses reports whether the listing lacks something, and remembers it.
func (c *Claims) misses(paths map[string]bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.seen
	c.seen = paths
	for name := range before {
		if !paths[name] {
			return true
		}
	}
	return before == nil
}

// Now is where a file of a listing is now, which gave at as its path: this process may
// have renamed it since.
func (c *Claims) Now(name, at, key string) string {
	claimed, err := c.Path(name, key)
	if err != nil {
		return at
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made[claimed] {
		return claimed
	}
	return at
}

// claim is what a claimed file's name says.
type claim struct {
	location string
	epoch    uint64
	version  string
	name     string
}

func versionOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

func (c claim) String() string {
	return fmt.Sprintf("%s%s-%d-%s-%s%s", claimPrefix, c.location, c.epoch, c.version, c.name, claimSuffix)
}

// parse reads a claimed file's name; ok is false if it is none.
func parse(base string) (c claim, ok bool) {
	rest, begins := strings.CutPrefix(base, claimPrefix)
	rest, ends := strings.CutSuffix(rest, claimSuffix)
	fields := strings.SplitN(rest, "-", 4)
	if !begins || !ends || len(fields) != 4 || fields[3] == "" {
		return claim{}, false
	}
	epoch, err := strconv.ParseUint(fields[1], 10, 64)
	return claim{fields[0], epoch, fields[2], fields[3]}, err == nil
}

// original returns the name that a file of the given name had before it was claimed,
// or says why it is not this location's to take. A file that is not claimed keeps its
// name.
func (c *Claims) original(base string) (name, why string) {
	made, ok := parse(base)
	switch {
	case !ok:
		return base, ""
	case c == nil || made.location != c.location:
		return base, "it is claimed by another receive location, or by another cluster"
	case made.epoch > c.epoch:
		return base, fmt.Sprintf("it is claimed under epoch %d, and this owner's is %d: there is a later owner", made.epoch, c.epoch)
	}
	return made.name, ""
}
