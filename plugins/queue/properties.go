package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// connection is what receive locations and send ports have in common.
type connection struct {
	Broker          string       `json:"broker" reach:"4222" jsonschema:"required,minLength=1" jsonschema_description:"Servers of one broker, as nats://host:4222 or tls://host:4222; several are separated by commas."`
	Stream          string       `json:"stream" jsonschema:"required,minLength=1" jsonschema_description:"JetStream stream that holds the messages."`
	User            string       `json:"user,omitempty" jsonschema_description:"Name to log in with."`
	Password        sdk.Secret   `json:"password,omitempty" jsonschema_description:"Password to log in with."`
	Token           sdk.Secret   `json:"token,omitempty" jsonschema_description:"Token to log in with, instead of user and password."`
	CredentialsFile string       `json:"credentials_file,omitempty" jsonschema_description:"File with a NATS user JWT and its seed (.creds), instead of the others."`
	CAFile          string       `json:"ca_file,omitempty" jsonschema_description:"PEM file with the certificates to trust instead of the system's. Makes every connection use TLS."`
	Timeout         sdk.Duration `json:"timeout" jsonschema:"default=10s" jsonschema_description:"How long a connect, a publish or an acknowledgement waits for the broker."`
}

// sendProperties are the endpoint properties of a send port.
type sendProperties struct {
	connection
	Subject         string       `json:"subject" jsonschema:"required,minLength=1" jsonschema_description:"Subject to publish to; the stream must take it."`
	Create          bool         `json:"create" jsonschema:"default=false" jsonschema_description:"Create the stream, with this subject alone and on disk, if it does not exist. An existing one is never changed."`
	DuplicateWindow sdk.Duration `json:"duplicate_window" jsonschema:"default=2m" jsonschema_description:"How long a stream made by create: true remembers message IDs to drop what is sent again."`
}

// receiveProperties are the endpoint properties of a receive location.
type receiveProperties struct {
	connection
	Consumer          string       `json:"consumer" jsonschema:"required,minLength=1" jsonschema_description:"Durable pull consumer; made when missing, from the stream's first message on. An existing one is never changed."`
	Subject           string       `json:"subject,omitempty" jsonschema_description:"Take only what was published to this subject; may contain the wildcards * and >. Default: all of the stream."`
	AckWait           sdk.Duration `json:"ack_wait" jsonschema:"default=60s" jsonschema_description:"How long the broker waits for a sign of life before it offers a message again: the time until another node gets what a dead one was working on. Used when the consumer is made."`
	Prefetch          int          `json:"prefetch" jsonschema:"default=0,minimum=0,maximum=1024" jsonschema_description:"Most messages held in memory at once. 0: one and a half times the location's max_in_flight, 16 to 1024. 1: a consumer made with it has one message under way in all, on whatever node."`
	RetryDelay        sdk.Duration `json:"retry_delay" jsonschema:"default=5s" jsonschema_description:"How long the broker waits before it offers a message again that was given back."`
	DeadLetterSubject string       `json:"dead_letter_subject,omitempty" jsonschema_description:"Subject that a suspended message is published to before it is acknowledged; a stream must take it. Without it a suspended message stays in the stream and is not offered again, which needs a stream with limits retention."`
}

var (
	_ sdk.Properties = sendProperties{}
	_ sdk.Properties = receiveProperties{}
)

const (
	// minDuplicateWindow is the smallest window that a broker takes.
	minDuplicateWindow = 100 * time.Millisecond
	// minPrefetch and maxPrefetch bound the messages that are held when prefetch is 0.
	minPrefetch, maxPrefetch = 16, 1024
	// minAckWait leaves room for three signs of life.
	minAckWait = time.Second
)

func problem(property, format string, args ...any) error {
	return &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)}
}

// Validate finds what the schema cannot say.
func (p sendProperties) Validate() error {
	errs := p.connection.problems()
	if err := checkSubject("subject", p.Subject, false); err != nil {
		errs = append(errs, err)
	}
	if p.DuplicateWindow.D() < minDuplicateWindow {
		errs = append(errs, problem("duplicate_window", "is %s, want %s or more", p.DuplicateWindow, minDuplicateWindow))
	}
	return errors.Join(errs...)
}

// Validate finds what the schema cannot say.
func (p receiveProperties) Validate() error {
	errs := p.connection.problems()
	errs = append(errs, checkName("consumer", p.Consumer))
	if p.Subject != "" {
		errs = append(errs, checkSubject("subject", p.Subject, true))
	}
	if p.DeadLetterSubject != "" {
		errs = append(errs, checkSubject("dead_letter_subject", p.DeadLetterSubject, false))
	}
	if p.AckWait.D() < minAckWait {
		errs = append(errs, problem("ack_wait", "is %s, want %s or more", p.AckWait, minAckWait))
	}
	if p.Prefetch < 0 || p.Prefetch > maxPrefetch {
		errs = append(errs, problem("prefetch", "is %d, want 0 to %d", p.Prefetch, maxPrefetch))
	}
	return errors.Join(errs...)
}

func (c connection) problems() []error {
	errs := []error{checkBroker(c.Broker), checkName("stream", c.Stream)}
	ways := 0
	for _, used := range []bool{c.User != "", c.Token != "", c.CredentialsFile != ""} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		errs = append(errs, problem("", "user, token and credentials_file exclude each other; give one of them"))
	}
	if c.Password != "" && c.User == "" {
		errs = append(errs, problem("user", "is missing; a password needs one"))
	}
	if c.Timeout.D() <= 0 {
		errs = append(errs, problem("timeout", "must be more than 0s"))
	}
	return errs
}

// checkBroker accepts the schemes that are served. It repeats no more of a wrong
// address than its scheme, because a password may stand in the rest.
func checkBroker(broker string) error {
	for one := range strings.SplitSeq(broker, ",") {
		one = strings.TrimSpace(one)
		scheme, _, found := strings.Cut(one, "://")
		if !found {
			return problem("broker", "has no scheme; write it as nats://host:4222 or tls://host:4222")
		}
		if scheme != "nats" && scheme != "tls" {
			return problem("broker", "%s://...: not served yet; this version speaks nats:// and tls://", scheme)
		}
		u, err := url.Parse(one)
		switch {
		case err != nil || u.Hostname() == "":
			return problem("broker", "%s://... is not an address; write it as %s://host:4222", scheme, scheme)
		case u.User != nil:
			return problem("broker", "contains credentials; they belong into user and password, or token")
		case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
			return problem("broker", "%s: has more than host and port", u.Host)
		}
	}
	return nil
}

// checkName accepts names of streams and consumers.
func checkName(property, name string) error {
	if i := strings.IndexFunc(name, badInName); i >= 0 {
		return problem(property, "%q: names contain no spaces, control characters or any of . * > / \\", name)
	}
	return nil
}

func badInName(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r)
}

// checkSubject accepts subjects: tokens separated by dots.
func checkSubject(property, subject string, wildcards bool) error {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return problem(property, "%q has an empty part; parts are separated by single dots", subject)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return problem(property, "%q contains a space or control character", subject)
		case strings.ContainsAny(token, "*>") && !wildcards:
			return problem(property, "%q contains a wildcard; name one subject", subject)
		case token == ">" && i != len(tokens)-1:
			return problem(property, "%q: > stands only at the end", subject)
		}
	}
	return nil
}

// subjectCovers reports whether every subject of inner is also one of outer. Both
// may contain wildcards.
func subjectCovers(outer, inner string) bool {
	o, in := strings.Split(outer, "."), strings.Split(inner, ".")
	for i, token := range o {
		if token == ">" {
			return len(in) > i
		}
		if i >= len(in) || in[i] == ">" || token != "*" && token != in[i] {
			return false
		}
	}
	return len(o) == len(in)
}
