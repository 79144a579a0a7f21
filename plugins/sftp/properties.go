package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
	"github.com/fairlead-io/fairlead/sdk/proxy"
)

const defaultPort = "22"

// connection is what receive locations and send ports have in common.
type connection struct {
	Address               string       `json:"address" reach:"22" jsonschema:"required,minLength=1" jsonschema_description:"Server, as host or host:port. Without a port 22 is used."`
	User                  string       `json:"user" jsonschema:"required,minLength=1" jsonschema_description:"Name to log in with."`
	Password              sdk.Secret   `json:"password,omitempty" jsonschema_description:"Password, for the methods password and keyboard-interactive. With private_key it is the second factor of servers that want both."`
	PrivateKey            sdk.Secret   `json:"private_key,omitempty" jsonschema_description:"Private key in OpenSSH or PEM format: the content of the file, as ${file:/etc/fairlead/partner.key}."`
	Passphrase            sdk.Secret   `json:"passphrase,omitempty" jsonschema_description:"Passphrase of private_key."`
	Agent                 string       `json:"agent,omitempty" jsonschema_description:"Socket of an SSH agent on the node whose keys are offered."`
	HostKeys              []string     `json:"host_keys,omitempty" jsonschema_description:"The server's host keys: fingerprints as ssh-keygen -l prints them (SHA256:...), or public keys (ssh-ed25519 AAAA...). One of them must be the server's."`
	KnownHosts            string       `json:"known_hosts,omitempty" jsonschema_description:"File with host keys in the format of OpenSSH, the same on every node that may own the host."`
	InsecureIgnoreHostKey bool         `json:"insecure_ignore_host_key" jsonschema:"default=false" jsonschema_description:"Talk to any server. For tests only: anybody on the way can take the password and the files."`
	Ciphers               []string     `json:"ciphers,omitempty" jsonschema_description:"Ciphers to offer, best first. Default: the secure ones."`
	KeyExchanges          []string     `json:"key_exchanges,omitempty" jsonschema_description:"Key exchange methods to offer, best first. Default: the secure ones."`
	MACs                  []string     `json:"macs,omitempty" jsonschema_description:"Message authentication codes to offer, best first. Default: the secure ones."`
	HostKeyAlgorithms     []string     `json:"host_key_algorithms,omitempty" jsonschema_description:"Kinds of host key to accept, best first. Default: the secure ones."`
	Connections           int          `json:"connections" jsonschema:"minimum=1,maximum=64,default=2" jsonschema_description:"Most connections to the server at the same time."`
	MaxConnectionAge      sdk.Duration `json:"max_connection_age" jsonschema:"default=0s" jsonschema_description:"How long a connection is used again before a new one is made, for servers that want it. 0s: for ever."`
	Timeout               sdk.Duration `json:"timeout" jsonschema:"default=30s" jsonschema_description:"How long a connect, a login, a reply or a transfer may go without any progress."`
	proxy.Proxy
}

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	connection
	files.Selection
	files.Taking
	Directory string `json:"directory" jsonschema:"default=." jsonschema_description:"Directory to read; relative to the login directory unless it begins with a slash."`
}

// sendProperties are the endpoint properties of a send port.
type sendProperties struct {
	connection
	files.Placement
	Directory          sdk.Template `json:"directory" jsonschema:"default=." jsonschema_description:"Directory to write to; relative to the login directory unless it begins with a slash. May use {{now:2006/01}}, {{sftp.name}} and other context properties, whose values fill one element and cannot lead elsewhere."`
	Name               sdk.Template `json:"name" jsonschema:"default={{fairlead.id}}" jsonschema_description:"Name of the file. May use {{fairlead.id}}, {{sftp.name}}, {{now:20060102T150405Z}} and other context properties; now is the time at which the message was taken in. A name with {{fairlead.id}} lets the port tell best whether a message has arrived."`
	TemporaryDirectory string       `json:"temporary_directory,omitempty" jsonschema_description:"Directory for files that are being uploaded, on the same file system as directory; relative to the login directory unless it begins with a slash. Default: directory."`
	Resume             bool         `json:"resume" jsonschema:"default=false" jsonschema_description:"Go on with an upload that broke off where it ended, if more than 1 MiB is there. What is there is taken as it is: not for servers that may lose written data in a crash."`
}

var (
	_ sdk.Properties = receiveProperties{}
	_ sdk.Properties = sendProperties{}
)

func problem(property, format string, args ...any) error {
	return &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)}
}

// Validate finds what the schema cannot say.
func (p receiveProperties) Validate() error {
	errs := slices.Concat(p.connection.problems(), p.Selection.Problems(), p.Taking.Problems(p.Directory))
	errs = append(errs, checkDirectory("directory", p.Directory), checkDirectory("move_to", p.MoveTo.String()))
	return errors.Join(errs...)
}

// Validate finds what the schema cannot say.
func (p sendProperties) Validate() error {
	errs := append(p.connection.problems(), p.Placement.Problems()...)
	errs = append(errs, files.DirectoryProblem("directory", p.Directory), checkDirectory("temporary_directory", p.TemporaryDirectory))
	if strings.ContainsAny(p.Name.String(), "/\\\x00") {
		errs = append(errs, problem("name", "%q contains a slash, a backslash or a NUL; name the directory under directory", p.Name))
	}
	errs = append(errs, p.appendProblems()...)
	return errors.Join(errs...)
}

func (p sendProperties) appendProblems() []error {
	var errs []error
	for property, set := range map[string]bool{"temporary_directory": p.TemporaryDirectory != "", "resume": p.Resume} {
		if set {
			errs = append(errs, p.WithAppend(property))
		}
	}
	return errs
}

func checkDirectory(property, dir string) error {
	if strings.ContainsRune(dir, 0) {
		return problem(property, "contains a NUL")
	}
	return nil
}

func (c connection) problems() []error {
	errs := c.Proxy.Problems()
	if _, err := c.hostPort(); err != nil {
		errs = append(errs, problem("address", "%v; want host or host:port", err))
	}
	if c.Password.Reveal() == "" && c.PrivateKey.Reveal() == "" && c.Agent == "" {
		errs = append(errs, problem("password", "is missing, and so are private_key and agent; one of them is needed to log in"))
	}
	if c.Passphrase.Reveal() != "" && c.PrivateKey.Reveal() == "" {
		errs = append(errs, problem("passphrase", "has no effect without private_key"))
	}
	if c.PrivateKey.Reveal() != "" {
		if _, err := c.signer(); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.hostKeyProblems()...)
	if c.Timeout.D() <= 0 {
		errs = append(errs, problem("timeout", "must be more than 0s"))
	}
	if c.MaxConnectionAge.D() < 0 {
		errs = append(errs, problem("max_connection_age", "is %v, want 0s (for ever) or more", c.MaxConnectionAge.D()))
	}
	supported, insecure := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	return append(errs, errors.Join(
		unknownAlgorithm("ciphers", c.Ciphers, supported.Ciphers, insecure.Ciphers),
		unknownAlgorithm("key_exchanges", c.KeyExchanges, supported.KeyExchanges, insecure.KeyExchanges),
		unknownAlgorithm("macs", c.MACs, supported.MACs, insecure.MACs),
		unknownAlgorithm("host_key_algorithms", c.HostKeyAlgorithms, supported.HostKeys, insecure.HostKeys),
	))
}

func unknownAlgorithm(property string, given, supported, insecure []string) error {
	var errs []error
	for i, name := range given {
		if !slices.Contains(supported, name) && !slices.Contains(insecure, name) {
			errs = append(errs, problem(fmt.Sprintf("%s.%d", property, i), "%q is not known; known are %s, and the insecure %s",
				name, strings.Join(supported, ", "), strings.Join(insecure, ", ")))
		}
	}
	return errors.Join(errs...)
}

func (c connection) hostKeyProblems() []error {
	var errs []error
	for i, text := range c.HostKeys {
		if _, err := parseHostKey(text); err != nil {
			errs = append(errs, problem(fmt.Sprintf("host_keys.%d", i), "%v", err))
		}
	}
	known := len(c.HostKeys) > 0 || c.KnownHosts != ""
	switch {
	case !known && !c.InsecureIgnoreHostKey:
		errs = append(errs, problem("host_keys", "is missing, and so is known_hosts: nothing says which server is the right one; "+
			"ssh-keyscan HOST | ssh-keygen -lf - prints the fingerprints of the one that answers: compare them with the administrator's"))
	case known && c.InsecureIgnoreHostKey:
		errs = append(errs, problem("insecure_ignore_host_key", "contradicts host_keys and known_hosts; take it away"))
	}
	return errs
}

// hostPort fills in the port.
func (c connection) hostPort() (string, error) {
	if strings.ContainsAny(c.Address, " \r\n\x00/") {
		return "", fmt.Errorf("%q is not an address", c.Address)
	}
	host, port, err := net.SplitHostPort(c.Address)
	switch {
	case err == nil:
	case strings.HasPrefix(c.Address, "[") && strings.HasSuffix(c.Address, "]"):
		host, port = c.Address[1:len(c.Address)-1], defaultPort
	case net.ParseIP(c.Address) != nil || !strings.Contains(c.Address, ":"):
		host, port = c.Address, defaultPort
	default:
		return "", fmt.Errorf("%q is not an address", c.Address)
	}
	if host == "" || port == "" {
		return "", fmt.Errorf("%q lacks a host or a port", c.Address)
	}
	return net.JoinHostPort(host, port), nil
}

// signer reads the private key.
func (c connection) signer() (ssh.Signer, error) {
	key := []byte(c.PrivateKey.Reveal())
	parse := func() (ssh.Signer, error) { return ssh.ParsePrivateKey(key) }
	if phrase := c.Passphrase.Reveal(); phrase != "" {
		parse = func() (ssh.Signer, error) { return ssh.ParsePrivateKeyWithPassphrase(key, []byte(phrase)) }
	}
	signer, err := parse()
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, problem("private_key", "is encrypted; give its passphrase in passphrase")
	case strings.HasPrefix(string(key), "PuTTY-User-Key-File"):
		return nil, problem("private_key", "is in PuTTY's format; puttygen KEY.ppk -O private-openssh converts it")
	case err != nil:
		return nil, problem("private_key", "cannot be read as an OpenSSH or PEM private key: %v", err)
	}
	return signer, nil
}
