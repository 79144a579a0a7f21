package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the machine need not have a database of time zones

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
	"github.com/fairlead-io/fairlead/sdk/proxy"
)

// How the connection is encrypted: the values of the property tls.
const (
	tlsNone     = "none"
	tlsExplicit = "explicit"
	tlsImplicit = "implicit"
)

// connection is what receive locations and send ports have in common.
type connection struct {
	Address            string       `json:"address" reach:"21,tls=implicit:990" jsonschema:"required,minLength=1" jsonschema_description:"Server, as host or host:port. Without a port 21 is used, with tls: implicit 990."`
	User               string       `json:"user" jsonschema:"default=anonymous" jsonschema_description:"Name to log in with."`
	Password           sdk.Secret   `json:"password,omitempty" jsonschema_description:"Password to log in with."`
	Account            sdk.Secret   `json:"account,omitempty" jsonschema_description:"Account to name (ACCT, RFC 959) when the server asks for one after the user or the password, as some mainframes do."`
	TLS                string       `json:"tls" jsonschema:"enum=none,enum=explicit,enum=implicit,default=none" jsonschema_description:"Encryption of both channels (RFC 4217): none, explicit (AUTH TLS on the usual port) or implicit (TLS from the first byte)."`
	TLS13              bool         `json:"tls13" jsonschema:"default=false" jsonschema_description:"Allow TLS 1.3. Off by default because servers that want the TLS session resumed on data connections differ in how they do it under 1.3."`
	CAFile             string       `json:"ca_file,omitempty" jsonschema_description:"PEM file with the certificates to trust instead of the system's."`
	ServerName         string       `json:"server_name,omitempty" jsonschema_description:"Name that the server's certificate must have. Default: the host in address."`
	InsecureSkipVerify bool         `json:"insecure_skip_verify" jsonschema:"default=false" jsonschema_description:"Accept any certificate. For tests only: anybody on the way can read the password."`
	ClientCertificate  string       `json:"client_certificate,omitempty" jsonschema_description:"Certificate to show to the server, with those that issued it, in PEM format: the content of the file, as ${file:/etc/fairlead/partner.crt}."`
	ClientKey          sdk.Secret   `json:"client_key,omitempty" jsonschema_description:"Private key of client_certificate in PEM format: the content of the file, as ${file:/etc/fairlead/partner.key}."`
	TLSPins            []string     `json:"tls_pins,omitempty" jsonschema_description:"Fingerprints of certificates, as SHA256: and the SHA-256 in hex digits, with or without colons, or in base64. The server's own certificate must be one of them. Without ca_file that is all that is asked of it, also where it is self-signed or has expired; with ca_file both."`
	Connections        int          `json:"connections" jsonschema:"minimum=1,maximum=64,default=2" jsonschema_description:"Most connections to the server at the same time."`
	ConnectionLimit    int          `json:"connection_limit" jsonschema:"minimum=0,default=0" jsonschema_description:"Most connections to this server for this user at the same time, with those of all other endpoints of the host. Give all of them the same limit. Who needs one more waits, and idle ones of others are closed for it. 0: no such limit."`
	Timeout            sdk.Duration `json:"timeout" jsonschema:"default=30s" jsonschema_description:"How long a connect, a reply or a transfer may go without any progress."`
	DisableEPSV        bool         `json:"disable_epsv" jsonschema:"default=false" jsonschema_description:"Use PASV at once instead of trying EPSV first."`
	Listing            string       `json:"listing" jsonschema:"enum=auto,enum=mlsd,enum=list,enum=nlst,default=auto" jsonschema_description:"How directories are listed: by mlsd (MLSD and MLST, also where the server does not offer them), list (LIST, SIZE, MDTM), nlst (names by NLST, then SIZE and MDTM for each), or auto: the first that the server has and whose format is known."`
	ServerTimeZone     string       `json:"server_time_zone" jsonschema:"default=UTC" jsonschema_description:"Time zone of the times in LIST, as Europe/Paris. MLSD, MLST and MDTM tell UTC and are not concerned."`
	activeMode
	Transfer string `json:"transfer" jsonschema:"enum=binary,enum=ascii,default=binary" jsonschema_description:"How the content travels: binary, as it is, or ascii (TYPE A), in which servers convert line ends and character sets. With ascii no size tells whether a file is whole: see the page of the adapter."`
	extraCommands
	Trace bool `json:"trace" jsonschema:"default=false" jsonschema_description:"Write all commands and replies to the log, without passwords, and a line for each data connection. File names are in it."`
	proxy.Proxy
}

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	connection
	files.Selection
	files.Taking
	Directory    string `json:"directory" jsonschema:"default=." jsonschema_description:"Directory to read; relative to the login directory unless it begins with a slash."`
	NoPipelining bool   `json:"disable_pipelining" jsonschema:"default=false" jsonschema_description:"Wait for the reply to each command before the next is sent. Servers that cannot take several commands at once are found out without it, after one time-out."`
}

// sendProperties are the endpoint properties of a send port.
type sendProperties struct {
	connection
	Directory          sdk.Template `json:"directory" jsonschema:"default=." jsonschema_description:"Directory to write to; relative to the login directory unless it begins with a slash. May use {{now:2006/01}}, {{ftp.name}} and other context properties, whose values fill one element and cannot lead elsewhere."`
	Name               sdk.Template `json:"name" jsonschema:"default={{fairlead.id}}" jsonschema_description:"Name of the file. May use {{fairlead.id}}, {{ftp.name}}, {{now:20060102T150405Z}} and other context properties. A name with {{fairlead.id}} lets the port tell best whether a message has arrived."`
	TemporaryDirectory string       `json:"temporary_directory,omitempty" jsonschema_description:"Directory for files that are being uploaded, on the same file system as directory; relative to the login directory unless it begins with a slash. Default: directory."`
	files.Placement
	Verify string `json:"verify" jsonschema:"enum=size,enum=hash,enum=auto,default=size" jsonschema_description:"How an upload is compared with the message before it gets its name: by its size; by a checksum as well, which the server takes (HASH, XSHA256, XSHA512, XSHA1, XMD5, XCRC); or auto: by the checksum if the server offers one."`
	Resume bool   `json:"resume" jsonschema:"default=false" jsonschema_description:"Go on with an upload that broke off where it ended (REST and STOR), if more than 1 MiB is there. The whole is verified by a checksum if the server offers one; else what is there is taken as it is: not for servers that may lose written data in a crash."`
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
	errs = append(errs, files.DirectoryProblem("directory", p.Directory))
	if p.TemporaryDirectory != "" {
		errs = append(errs, checkDirectory("temporary_directory", p.TemporaryDirectory))
	}
	errs = append(errs, p.asciiProblems()...)
	if strings.ContainsAny(p.Name.String(), "\r\n\x00") {
		errs = append(errs, problem("name", "contains a line break or a NUL"))
	}
	for property, set := range map[string]bool{"temporary_directory": p.TemporaryDirectory != "", "resume": p.Resume, "verify": p.Verify == verifyHash} {
		if set {
			errs = append(errs, p.WithAppend(property))
		}
	}
	return errors.Join(errs...)
}

func (c connection) problems() []error {
	errs := c.Proxy.Problems()
	if _, _, err := c.hostPort(); err != nil {
		errs = append(errs, problem("address", "%v; want host or host:port", err))
	}
	if strings.ContainsAny(c.User, "\r\n\x00") {
		errs = append(errs, problem("user", "contains a line break or a NUL"))
	}
	if strings.ContainsAny(c.Password.Reveal(), "\r\n\x00") {
		errs = append(errs, problem("password", "contains a line break or a NUL; a password from a file may end in one"))
	}
	if strings.ContainsAny(c.Account.Reveal(), "\r\n\x00") {
		errs = append(errs, problem("account", "contains a line break or a NUL; an account from a file may end in one"))
	}
	if c.Timeout.D() <= 0 {
		errs = append(errs, problem("timeout", "must be more than 0s"))
	}
	if c.Connections < 1 {
		errs = append(errs, problem("connections", "is %d, want 1 or more", c.Connections))
	}
	if c.ConnectionLimit < 0 {
		errs = append(errs, problem("connection_limit", "is %d, want 1 or more, or 0 for no limit", c.ConnectionLimit))
	}
	if _, err := c.zone(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.activeMode.problems(c.Connections)...)
	if c.Mode == modeActive && c.DisableEPSV {
		errs = append(errs, problem("disable_epsv", "has no effect with data_mode: active"))
	}
	if c.Mode == modeActive && c.Proxy.Used() {
		errs = append(errs, problem("data_mode", "is active, which no proxy can do: the server has to connect to this node; use passive"))
	}
	errs = append(errs, c.extraCommands.problems()...)
	if c.TLS == tlsNone {
		for name, set := range map[string]bool{"tls13": c.TLS13, "ca_file": c.CAFile != "", "server_name": c.ServerName != "", "insecure_skip_verify": c.InsecureSkipVerify,
			"client_certificate": c.ClientCertificate != "", "client_key": c.ClientKey != "", "tls_pins": len(c.TLSPins) > 0} {
			if set {
				errs = append(errs, problem(name, "has no effect with tls: none; want tls: explicit or implicit"))
			}
		}
	}
	return append(errs, c.certificateProblems()...)
}

// zone is the time zone of LIST.
func (c connection) zone() (*time.Location, error) {
	zone, err := time.LoadLocation(c.ServerTimeZone)
	if err != nil || c.ServerTimeZone == "Local" { // which differs from node to node
		return nil, problem("server_time_zone", "%q is no time zone; want one as Europe/Paris or UTC", c.ServerTimeZone)
	}
	return zone, nil
}

func checkDirectory(property, dir string) error {
	if strings.ContainsAny(dir, "\r\n\x00") {
		return problem(property, "contains a line break or a NUL")
	}
	return nil
}

// hostPort splits the address and fills in the port.
func (c connection) hostPort() (host, port string, err error) {
	port = "21"
	if c.TLS == tlsImplicit {
		port = "990"
	}
	if strings.ContainsAny(c.Address, " \r\n\x00/") {
		return "", "", fmt.Errorf("%q is not an address", c.Address)
	}
	host, given, err := net.SplitHostPort(c.Address)
	switch {
	case err == nil:
		port = given
	case strings.HasPrefix(c.Address, "[") && strings.HasSuffix(c.Address, "]"):
		host = c.Address[1 : len(c.Address)-1]
	case net.ParseIP(c.Address) != nil || !strings.Contains(c.Address, ":"):
		host = c.Address
	default:
		return "", "", fmt.Errorf("%q is not an address", c.Address)
	}
	if host == "" || port == "" {
		return "", "", fmt.Errorf("%q lacks a host or a port", c.Address)
	}
	return host, port, nil
}
