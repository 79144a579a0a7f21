package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
// The zero value is of no use. Its methods may be called by several goroutines.
type Claims struct {
	location string
	epoch    uint64

	mu sync.Mutex
	// made are claims of this process that are not settled: whoever has an older listing
	// in hand knows the file by its former name.
	made map[string]bool
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
	mark := sha256.Sum256([]byte(key))
	dir, base := path.Split(name)
	claimed := fmt.Sprintf("%s%s-%d-%s-%s%s", claimPrefix, c.location, c.epoch, hex.EncodeToString(mark[:4]), base, claimSuffix)
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
	if err != nil {
		return // it cannot have been claimed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.made, claimed)
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

// parse takes a claim's name apart; ok is false if it is none.
func parse(base string) (location string, epoch uint64, name string, ok bool) {
	rest, begins := strings.CutPrefix(base, claimPrefix)
	rest, ends := strings.CutSuffix(rest, claimSuffix)
	if !begins || !ends {
		return "", 0, "", false
	}
	fields := strings.SplitN(rest, "-", 4)
	if len(fields) != 4 || fields[3] == "" {
		return "", 0, "", false
	}
	epoch, err := strconv.ParseUint(fields[1], 10, 64)
	return fields[0], epoch, fields[3], err == nil
}

// original returns the name that a file of the given name had before it was claimed,
// or says why it is not this location's to take. A file that is not claimed keeps its
// name.
func (c *Claims) original(base string) (name, why string) {
	location, epoch, name, ok := parse(base)
	switch {
	case !ok:
		return base, ""
	case c == nil || location != c.location:
		return base, "it is claimed by another receive location, or by another cluster"
	case epoch > c.epoch:
		return base, fmt.Sprintf("it is claimed under epoch %d, and this owner's is %d: there is a later owner", epoch, c.epoch)
	}
	return name, ""
}
