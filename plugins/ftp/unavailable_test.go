package main

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

const shutsDown = "421 service not available, closing"

// leaves answers with 421 and closes the connection.
func leaves(c *scriptedConn, _ string) {
	c.say(shutsDown)
	c.Close()
}

// Neither a listing nor a send uses up an attempt of an item: nothing of it was tried.
func TestServerThatTakesNoMoreClientsBacksOff(t *testing.T) {
	const room = "set connection_limit"
	for name, c := range map[string]struct {
		at, reply string
		want      []string
		not       string
	}{
		"greeting 421":         {"", "421 There are too many connected users, please try later.", []string{"connect to", "421", room}, "password"},
		"USER 421":             {"USER", "421 Too many connections (5) from this IP", []string{"log in at", room}, "check"},
		"PASS 421":             {"PASS", shutsDown, []string{"log in at", "421", room}, "check"},
		"530 of ProFTPD":       {"PASS", "530 Sorry, the maximum number of clients (5) for this user already connected", []string{"530", room}, "check"},
		"530 at USER":          {"USER", "530 Sorry, max 3 users -- try again later", []string{"max 3 users", room}, "check"},
		"530 at the greeting":  {"", "530 Too many connections", []string{"530", room}, "check"},
		"530, wrong password":  {"PASS", "530 Login incorrect.", []string{"530", "check user and password"}, room},
		"530, too many errors": {"PASS", "530 Too many failed login attempts, account locked", []string{"check user and password"}, room},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "", map[string]handler{c.at: func(conn *scriptedConn, _ string) {
				conn.say("%s", c.reply)
				if strings.HasPrefix(c.reply, "421") {
					conn.Close()
				}
			}})
			props := s.props("timeout", "10s")
			_, listErr := newSource(t, props).List(testContext(t))
			k, m := newSink(t, props), newMessage(t, []byte("x"))
			sendErr := k.Send(testContext(t), m)
			for _, err := range []error{listErr, sendErr} {
				if !sdk.IsDisconnected(err) {
					t.Errorf("%v is not Disconnected", err)
				}
				mustContain(t, err, c.want...)
				if err != nil && strings.Contains(err.Error(), c.not) {
					t.Errorf("%q speaks of %q", err, c.not)
				}
			}
			if n := s.count("STOR"); n > 0 {
				t.Errorf("%d uploads", n)
			}
		})
	}
}

func TestServerThatLeavesWhileReceivingBacksOff(t *testing.T) {
	entry := "250-details\r\n " + strings.TrimSpace(mlsdOne) + "\r\n250 end"
	standard := map[string]handler{"MLSD": sends(mlsdOne), "MLST": says(entry), "RETR": sends("12345")}
	for verb, do := range map[string]func(src *source, item sdk.Item) error{
		"MLSD": func(src *source, _ sdk.Item) error { _, err := src.List(testContext(t)); return err },
		"RETR": func(src *source, item sdk.Item) error { _, err := read(t, src, item); return err },
		"MLST": func(src *source, item sdk.Item) error { return src.Settle(testContext(t), item) },
		"DELE": func(src *source, item sdk.Item) error { return src.Settle(testContext(t), item) },
		"226":  func(src *source, item sdk.Item) error { _, err := read(t, src, item); return err },
	} {
		t.Run(verb, func(t *testing.T) {
			lists, leaving := newSource(t, startScripted(t, "MLST", standard).props("timeout", "10s")), map[string]handler{}
			item := list(t, lists)["a"]
			for v, h := range standard {
				leaving[v] = h
			}
			leaving[verb] = leaves
			if verb == "226" {
				leaving["RETR"] = func(c *scriptedConn, _ string) {
					c.say("150 here it comes")
					data, err := c.data.Accept()
					if err != nil {
						return
					}
					fmt.Fprint(data, "12345")
					data.Close()
					leaves(c, "")
				}
			}
			src := newSource(t, startScripted(t, "MLST", leaving).props("timeout", "10s"))
			if err := do(src, item); !sdk.IsDisconnected(err) {
				t.Errorf("%v is not Disconnected", err)
			} else {
				mustContain(t, err, "421")
			}
		})
	}
}

func TestServerThatLeavesWhileSendingBacksOffUntilTheRename(t *testing.T) {
	for verb, absent := range map[string]bool{"STOR": true, "226": true, "SIZE": true, "RNFR": false, "RNTO": false} {
		t.Run(verb, func(t *testing.T) {
			handlers := map[string]handler{"SIZE": says("213 1"), verb: leaves}
			if verb == "226" {
				handlers["STOR"] = func(c *scriptedConn, _ string) {
					c.say("150 go on")
					data, err := c.data.Accept()
					if err != nil {
						return
					}
					drain(data)
					data.Close()
					leaves(c, "")
				}
			}
			s := startScripted(t, "SIZE", handlers)
			k, m := newSink(t, s.props("timeout", "10s")), newMessage(t, []byte("x"))
			err := k.Send(testContext(t), m)
			mustContain(t, err, "421")
			if sdk.IsDisconnected(err) != absent {
				t.Errorf("%v is Disconnected: %v, want %v", err, !absent, absent)
			}
			if known := k.sent.knownAbsent(m); known != absent {
				t.Errorf("the message is known not to have arrived: %v, want %v", known, absent)
			}
		})
	}
}

func drain(data net.Conn) {
	for buf := make([]byte, 4096); ; {
		if _, err := data.Read(buf); err != nil {
			return
		}
	}
}
