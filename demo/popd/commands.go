package popd

import (
	"fmt"
	"strconv"
	"strings"
)

// do carries out one command. An error ends the session.
func (c *session) do(command, argument string) error {
	switch {
	case command == "CAPA" && !c.s.cfg.WithoutCAPA:
		return c.multi("capabilities", []byte(strings.Join(c.capabilities(), "\r\n")))
	case command == "QUIT":
		return c.quit()
	case !c.login:
		return c.authorize(command, argument)
	}
	return c.transact(command, argument)
}

func (c *session) capabilities() []string {
	caps := []string{"RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"}
	if !c.s.cfg.WithoutUIDL {
		caps = append(caps, "UIDL")
	}
	if c.s.cfg.TLS == STLS && !c.tls {
		return append(caps, "STLS")
	}
	caps = append(caps, "USER")
	if !c.s.cfg.WithoutSASL {
		caps = append(caps, "SASL PLAIN")
	}
	return caps
}

// authorize is the state before login.
func (c *session) authorize(command, argument string) error {
	if command == "STLS" && c.s.cfg.TLS == STLS && !c.tls {
		if err := c.ok("begin TLS"); err != nil {
			return err
		}
		return c.encrypt()
	}
	if c.s.cfg.TLS == STLS && !c.tls {
		return c.err("[AUTH] encrypt first: STLS")
	}
	switch command {
	case "USER":
		c.user = argument
		return c.ok("now the password")
	case "PASS":
		return c.enter(c.checkPassword(c.user, argument))
	case "APOP":
		user, digest, _ := strings.Cut(argument, " ")
		if c.stamp == "" {
			return c.err("no APOP here")
		}
		return c.enter(c.checkDigest(user, digest))
	case "AUTH":
		mechanism, initial, _ := strings.Cut(argument, " ")
		if c.s.cfg.WithoutSASL || !strings.EqualFold(mechanism, "PLAIN") {
			return c.err("unknown mechanism")
		}
		return c.plain(initial)
	}
	return c.err("unknown command, or not before login")
}

func (c *session) enter(right bool) error {
	if !right {
		return c.err("[AUTH] wrong user or password")
	}
	if !c.s.drop.lock() {
		return c.err("[IN-USE] another session holds the maildrop")
	}
	c.login, c.mails = true, c.s.drop.snapshot()
	return c.ok(fmt.Sprintf("%d messages", len(c.mails)))
}

// transact is the state after login.
func (c *session) transact(command, argument string) error {
	switch command {
	case "NOOP":
		return c.ok("")
	case "RSET":
		clear(c.deleted)
		return c.ok("")
	case "STAT":
		n, size := 0, 0
		c.each(func(_ int, m mail) { n++; size += len(m.content) })
		return c.ok(fmt.Sprintf("%d %d", n, size))
	case "LIST":
		return c.list(argument, func(m mail) string { return strconv.Itoa(len(m.content)) })
	case "UIDL":
		if !c.s.cfg.WithoutUIDL {
			return c.list(argument, func(m mail) string { return m.uidl })
		}
	case "RETR", "DELE":
		return c.one(command, argument)
	}
	return c.err("unknown command")
}

// each visits what is not deleted.
func (c *session) each(f func(number int, m mail)) {
	for i, m := range c.mails {
		if !c.deleted[i] {
			f(i+1, m)
		}
	}
}

func (c *session) list(argument string, say func(mail) string) error {
	if argument != "" {
		i, m, err := c.find(argument)
		if err != nil {
			return c.err(err.Error())
		}
		return c.ok(fmt.Sprintf("%d %s", i+1, say(m)))
	}
	var b strings.Builder
	c.each(func(number int, m mail) { fmt.Fprintf(&b, "%d %s\r\n", number, say(m)) })
	return c.multi("list follows", []byte(b.String()))
}

func (c *session) find(argument string) (int, mail, error) {
	n, err := strconv.Atoi(argument)
	if err != nil || n < 1 || n > len(c.mails) || c.deleted[n-1] {
		return 0, mail{}, fmt.Errorf("no message %.20q", argument)
	}
	return n - 1, c.mails[n-1], nil
}

func (c *session) one(command, argument string) error {
	i, m, err := c.find(argument)
	if err != nil {
		return c.err(err.Error())
	}
	if command == "DELE" {
		c.deleted[i] = true
		return c.ok("marked")
	}
	if !c.s.drop.has(m.uidl) {
		return c.err("message was expunged")
	}
	return c.multi(fmt.Sprintf("%d octets", len(m.content)), m.content)
}

// quit is the update state: here and only here mails are deleted.
func (c *session) quit() error {
	for i := range c.deleted {
		c.s.drop.remove(c.mails[i].uidl)
	}
	if c.login {
		// Before the answer, so that a client that got it can log in again.
		c.s.drop.unlock()
		c.login = false
	}
	if err := c.ok("bye"); err != nil {
		return err
	}
	return errEnd
}
