package main

import (
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

const testAccount = "acc0unt-42"

func takesAccount(c *scriptedConn, arg string) {
	if arg == testAccount {
		c.say("230-welcome\r\n to the machine\r\n230 logged in")
		return
	}
	c.say("530 no account %s here", arg)
}

func TestAccountIsGivenWhenTheServerAsksForIt(t *testing.T) {
	for name, handlers := range map[string]map[string]handler{
		"after the password":  {"PASS": says("332 account?"), "ACCT": takesAccount},
		"after the user":      {"USER": says("332 account?"), "ACCT": takesAccount},
		"between them":        {"USER": says("332 account?"), "ACCT": says("331 password?")},
		"when it is too much": {"PASS": says("332 account?"), "ACCT": says("202 never mind")},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST", handlers)
			src, log := tracedSource(t, s.props("account", testAccount, "trace", true))
			list(t, src)
			wantLogged(t, log, `sent="ACCT ***"`)
			if log.count(testAccount) > 0 || log.count(testPassword) > 0 {
				t.Errorf("the log shows a secret:\n%s", log)
			}
		})
	}
}

func TestAccountIsNotGivenUnasked(t *testing.T) {
	s := startScripted(t, "MLST", nil)
	list(t, newSource(t, s.props("account", testAccount)))
	if s.count("ACCT") > 0 {
		t.Error("a server that asks for no account was given one")
	}
}

func TestLoginWithoutOrWithAWrongAccountSaysSo(t *testing.T) {
	for _, verb := range []string{"USER", "PASS"} {
		s := startScripted(t, "", map[string]handler{verb: says("332-which\r\n332 account?"), "ACCT": takesAccount})
		_, err := newSource(t, s.props()).List(testContext(t))
		mustContain(t, err, "set account", "account?")
		if !sdk.IsDisconnected(err) {
			t.Errorf("%v, want disconnected", err)
		}
		_, err = newSource(t, s.props("account", "wr0ng-one")).List(testContext(t))
		mustContain(t, err, "account refused", "530", "no account *** here")
		if strings.Contains(err.Error(), "wr0ng-one") {
			t.Errorf("error %q shows the account", err)
		}
	}
}
