package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fairlead-io/fairlead/sdk"
)

// onlyKey makes the server accept one public key and nothing else.
func onlyKey(key ssh.PublicKey) func(s *testServer) {
	return func(s *testServer) {
		s.cfg.PasswordCallback = nil
		s.cfg.PublicKeyCallback = func(_ ssh.ConnMetadata, given ssh.PublicKey) (*ssh.Permissions, error) {
			if ssh.FingerprintSHA256(given) == ssh.FingerprintSHA256(key) {
				return nil, nil
			}
			return nil, errors.New("no")
		}
	}
}

func TestWaysOfLoggingIn(t *testing.T) {
	signer, key := newSigner(t)
	t.Run("private key", func(t *testing.T) {
		s := startServer(t, onlyKey(signer.PublicKey()))
		list(t, newSource(t, with(s.props, "password", "", "private_key", keyText(t, key, ""))))
	})
	t.Run("private key with a passphrase", func(t *testing.T) {
		s := startServer(t, onlyKey(signer.PublicKey()))
		list(t, newSource(t, with(s.props, "password", "", "private_key", keyText(t, key, "open"), "passphrase", "open")))
	})
	t.Run("agent", func(t *testing.T) {
		s := startServer(t, onlyKey(signer.PublicKey()))
		keyring := agent.NewKeyring()
		if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(t.TempDir(), "agent")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() { // ends with the listener
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_ = agent.ServeAgent(keyring, conn)
			}
		}()
		list(t, newSource(t, with(s.props, "password", "", "agent", socket)))
	})
	t.Run("keyboard-interactive", func(t *testing.T) {
		s := startServer(t, func(s *testServer) {
			s.cfg.PasswordCallback = nil
			s.cfg.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				answers, err := ask("", "Welcome", []string{"Password: "}, []bool{false})
				if err != nil || len(answers) != 1 || answers[0] != testPassword {
					return nil, errors.New("no")
				}
				return nil, nil
			}
		})
		list(t, newSource(t, s.props))
	})
	t.Run("key and password", func(t *testing.T) {
		s := startServer(t, onlyKey(signer.PublicKey()), func(s *testServer) {
			first, check := s.cfg.PublicKeyCallback, func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
				if string(given) != testPassword {
					return nil, errors.New("no")
				}
				return nil, nil
			}
			s.cfg.PublicKeyCallback = func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
				if _, err := first(c, key); err != nil {
					return nil, err
				}
				return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PasswordCallback: check}}
			}
		})
		list(t, newSource(t, with(s.props, "private_key", keyText(t, key, ""))))
	})
	t.Run("host key in full", func(t *testing.T) {
		s := startServer(t)
		list(t, newSource(t, with(s.props, "host_keys", []string{string(ssh.MarshalAuthorizedKey(s.host.PublicKey()))})))
	})
	t.Run("known hosts", func(t *testing.T) {
		s := startServer(t)
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(knownhosts.Line([]string{s.addr}, s.host.PublicKey())+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		list(t, newSource(t, with(s.props, "host_keys", nil, "known_hosts", file)))
	})
	t.Run("chosen algorithms", func(t *testing.T) {
		s := startServer(t)
		list(t, newSource(t, with(s.props, "ciphers", []string{ssh.CipherAES128CTR}, "macs", []string{ssh.HMACSHA256}, "key_exchanges", []string{ssh.KeyExchangeCurve25519})))
	})
}

// Each of these is a state in which nothing was sent or taken, the location waits, and
// the error says what to do.
func TestLoginsThatFailSayWhatToDo(t *testing.T) {
	other, key := newSigner(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, c := range map[string]struct {
		change     func(s *testServer)
		properties func(s *testServer) []any
		want       []string
	}{
		"wrong password": {
			properties: func(*testServer) []any { return []any{"password", "guessed wrongly"} },
			want:       []string{"log in at", "check user, password"},
		},
		"wrong key": {
			change:     onlyKey(other.PublicKey()),
			properties: func(*testServer) []any { return nil },
			want:       []string{"check user, password, private_key"},
		},
		"another host key": {
			properties: func(*testServer) []any {
				return []any{"host_keys", []string{ssh.FingerprintSHA256(other.PublicKey())}}
			},
			want: []string{"not the one that is configured", "SHA256:", "ssh-ed25519", "may be another server"},
		},
		"no common cipher": {
			change:     func(s *testServer) { s.cfg.Ciphers = []string{ssh.CipherAES256CTR} },
			properties: func(*testServer) []any { return []any{"ciphers", []string{ssh.CipherAES128CTR}} },
			want:       []string{"aes256-ctr", "choose what it offers by ciphers"},
		},
		"no SFTP": {
			change:     func(s *testServer) { s.noSFTP = true },
			properties: func(*testServer) []any { return nil },
			want:       []string{"does not offer SFTP"},
		},
		"nobody there": {
			properties: func(*testServer) []any { return []any{"address", "127.0.0.1:1"} },
			want:       []string{"connect to 127.0.0.1:1", "refused"},
		},
		"silent server": {
			properties: func(*testServer) []any { return []any{"address", silent.Addr().String(), "timeout", "200ms"} },
			want:       []string{"log in at " + silent.Addr().String()},
		},
		"no directory": {
			properties: func(*testServer) []any { return []any{"directory", "/nowhere/at/all"} },
			want:       []string{"list /nowhere/at/all", "check directory"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := c.change
			if change == nil {
				change = func(*testServer) {}
			}
			s := startServer(t, change)
			src := newSource(t, with(s.props, c.properties(s)...))
			began := time.Now()
			_, err := src.List(testContext(t))
			if !sdk.IsDisconnected(err) {
				t.Fatalf("%v is not Disconnected", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not contain %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "guessed wrongly") || strings.Contains(err.Error(), testPassword) {
				t.Errorf("the password is in the error: %v", err)
			}
			if took := time.Since(began); took > testWait/2 {
				t.Errorf("took %v", took)
			}
		})
	}
	_ = key
}

func TestPropertiesThatCannotWorkAreFoundBefore(t *testing.T) {
	_, key := newSigner(t)
	base := map[string]any{"address": "h", "user": "u", "password": "p", "host_keys": []string{"SHA256:" + strings.Repeat("A", 43)}}
	for name, c := range map[string]struct {
		properties     []any
		property, want string
	}{
		"no way to log in":   {[]any{"password", ""}, "password", "private_key and agent"},
		"no host key":        {[]any{"host_keys", []string{}}, "host_keys", "ssh-keyscan"},
		"half a fingerprint": {[]any{"host_keys", []string{"SHA256:AAAA"}}, "host_keys.0", "43 characters"},
		"MD5":                {[]any{"host_keys", []string{"MD5:aa:bb"}}, "host_keys.0", "neither"},
		"both":               {[]any{"insecure_ignore_host_key", true}, "insecure_ignore_host_key", "contradicts"},
		"locked key":         {[]any{"private_key", keyText(t, key, "x")}, "private_key", "passphrase"},
		"PuTTY":              {[]any{"private_key", "PuTTY-User-Key-File-3: ssh-ed25519\n"}, "private_key", "puttygen"},
		"no key":             {[]any{"private_key", "hello"}, "private_key", "OpenSSH or PEM"},
		"cipher":             {[]any{"ciphers", []string{"rot13"}}, "ciphers.0", "known are"},
		"address":            {[]any{"address", "a b"}, "address", "host:port"},
		"pattern":            {[]any{"pattern", "[a"}, "pattern", "without ]"},
		"move nowhere":       {[]any{"after_delivery", "move"}, "move_to", "is missing"},
		"move to itself":     {[]any{"after_delivery", "move", "move_to", "."}, "move_to", "taken again"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decodeLoosely(t, with(base, c.properties...))
			err := p.Validate()
			var of *sdk.PropertyError
			if !errors.As(err, &of) || of.Property != c.property || !strings.Contains(of.Problem, c.want) {
				t.Errorf("%v; want one about %s that contains %q", err, c.property, c.want)
			}
		})
	}
}
