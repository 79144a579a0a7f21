package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestReadmeDocumentsEveryProperty(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	data, err := sdk.Schema[receiveProperties]()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range schema.Properties {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("README.md has no row for %s", name)
		}
	}
}

func TestDefaultsAreThoseOfThePage(t *testing.T) {
	p, err := sdk.DecodeProperties[receiveProperties]([]byte(`{"address":"mail.example","user":"u","password":"p"}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Auth != "auto" || p.AfterDelivery != "delete" || p.Content != "raw" || p.TLS != "none" || p.Timeout.String() != "30s" {
		t.Errorf("defaults are %+v", p)
	}
	for tls, want := range map[string]string{"none": "mail.example:110", "starttls": "mail.example:110", "implicit": "mail.example:995"} {
		p.TLS = tls
		if got, err := p.HostPort(ports); got != want || err != nil {
			t.Errorf("with tls: %s the address is %s (%v), want %s", tls, got, err, want)
		}
	}
}

func TestPropertiesThatAreWrongAreFoundAllAtOnce(t *testing.T) {
	_, err := sdk.DecodeProperties[receiveProperties]([]byte(`{
		"address": "a:b:c", "user": "u\r\nDELE 1", "password": "p\n", "timeout": "0s", "server_name": "x",
		"auth": "ntlm", "after_delivery": "move", "content": "mime"}`))
	mustContain(t, err, "address: ", "user: ", "password: ", "timeout: ", "server_name: ", "auth: ", "after_delivery: ", "content: ")
	_, err = sdk.DecodeProperties[receiveProperties]([]byte(`{"address": "a", "user": "u", "password": "p", "mailbox": "x"}`))
	mustContain(t, err, "mailbox")
}
