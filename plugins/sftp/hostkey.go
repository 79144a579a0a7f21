package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const fingerprintPrefix = "SHA256:"

// hostKey is one key that the server may have.
type hostKey struct {
	// fingerprint is empty if the key itself is known.
	fingerprint string
	key         []byte
}

func (h hostKey) is(key ssh.PublicKey) bool {
	if h.fingerprint != "" {
		return h.fingerprint == ssh.FingerprintSHA256(key)
	}
	return bytes.Equal(h.key, key.Marshal())
}

// parseHostKey reads a fingerprint or a public key.
func parseHostKey(text string) (hostKey, error) {
	text = strings.TrimSpace(text)
	if encoded, ok := strings.CutPrefix(text, fingerprintPrefix); ok {
		encoded = strings.TrimRight(encoded, "=")
		sum, err := base64.RawStdEncoding.DecodeString(encoded)
		if err != nil || len(sum) != 32 {
			return hostKey{}, fmt.Errorf("%q is not a SHA-256 fingerprint, which is SHA256: and 43 characters", text)
		}
		return hostKey{fingerprint: fingerprintPrefix + encoded}, nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return hostKey{}, fmt.Errorf("%q is neither a fingerprint (SHA256:...) nor a public key (ssh-ed25519 AAAA...)", text)
	}
	return hostKey{key: key.Marshal()}, nil
}

// errHostKey is in the error of a server with another key than it should have.
var errHostKey = errors.New("the host key is not the one that is configured")

// checkHostKey makes the check that the connection is to the right server. It never
// accepts a key because it is the first one that is seen.
func (c connection) checkHostKey() (ssh.HostKeyCallback, error) {
	if c.InsecureIgnoreHostKey {
		return ssh.InsecureIgnoreHostKey(), nil //nolint:gosec // asked for by name, and warned of at every start
	}
	var keys []hostKey
	for _, text := range c.HostKeys {
		key, err := parseHostKey(text)
		if err != nil {
			return nil, problem("host_keys", "%v", err)
		}
		keys = append(keys, key)
	}
	var file ssh.HostKeyCallback
	if c.KnownHosts != "" {
		var err error
		if file, err = knownhosts.New(c.KnownHosts); err != nil {
			return nil, problem("known_hosts", "%v", err)
		}
	}
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		for _, k := range keys {
			if k.is(key) {
				return nil
			}
		}
		if file != nil && file(address, remote, key) == nil {
			return nil
		}
		return fmt.Errorf("%w: it is %s (%s)", errHostKey, ssh.FingerprintSHA256(key), key.Type())
	}, nil
}
