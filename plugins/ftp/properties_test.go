package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	p := decode[receiveProperties](t, map[string]any{"address": "ftp.example"})
	if p.User != "anonymous" || p.TLS != tlsNone || p.Connections != 2 || p.Timeout.D() != 30*time.Second {
		t.Errorf("connection defaults: %+v", p.connection)
	}
	if p.Directory != "." || p.Pattern != "*" || p.StableFor.D() != 2*time.Second || p.AfterDelivery != files.AfterDelete {
		t.Errorf("receive defaults: %+v", p)
	}
	k := decode[sendProperties](t, map[string]any{"address": "ftp.example"})
	if k.Name.String() != "{{fairlead.id}}" || k.IfExists != files.ExistsReplace || k.Directory.String() != "." {
		t.Errorf("send defaults: %+v", k)
	}
}

func TestSchemaNamesEveryPropertyAndHidesThePassword(t *testing.T) {
	data, err := sdk.Schema[receiveProperties]()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Required   []string
		Properties map[string]struct {
			Description string
			WriteOnly   bool
		}
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(schema.Required, []string{"address"}) {
		t.Errorf("required are %q, want address", schema.Required)
	}
	for name, p := range schema.Properties {
		if p.Description == "" {
			t.Errorf("property %s has no description", name)
		}
	}
	if !schema.Properties["password"].WriteOnly {
		t.Error("the password is not write-only")
	}
	for _, name := range []string{"tls", "pattern", "stable_for", "move_to", "timeout"} {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("property %s is missing", name)
		}
	}
}

func TestWrongPropertiesAreNamedWithWhatWouldBeRight(t *testing.T) {
	tests := map[string]struct {
		props    map[string]any
		property string
	}{
		"pattern with a lone bracket":   {map[string]any{"pattern": "[a"}, "pattern"},
		"pattern with a directory":      {map[string]any{"pattern": "out/*"}, "pattern"},
		"move without a directory":      {map[string]any{"after_delivery": "move"}, "move_to"},
		"directory without a move":      {map[string]any{"move_to": "done"}, "move_to"},
		"move to where it came from":    {map[string]any{"after_delivery": "move", "move_to": "."}, "move_to"},
		"line break in the directory":   {map[string]any{"directory": "out\r\nDELE x"}, "directory"},
		"line break in the user":        {map[string]any{"user": "me\r\nDELE x"}, "user"},
		"line break after the password": {map[string]any{"password": "secret\n"}, "password"},
		"no time at all":                {map[string]any{"timeout": "0s"}, "timeout"},
		"no connection at all":          {map[string]any{"connections": 0}, "connections"},
		"a URL as address":              {map[string]any{"address": "ftp://ftp.example"}, "address"},
		"TLS settings without TLS":      {map[string]any{"insecure_skip_verify": true}, "insecure_skip_verify"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(with(map[string]any{"address": "ftp.example"}, "user", "me"))
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]any{}
			if err := json.Unmarshal(data, &all); err != nil {
				t.Fatal(err)
			}
			for k, v := range test.props {
				all[k] = v
			}
			if data, err = json.Marshal(all); err != nil {
				t.Fatal(err)
			}
			_, err = sdk.DecodeProperties[receiveProperties](data)
			var wrong *sdk.PropertyError
			if !errors.As(err, &wrong) || wrong.Property != test.property {
				t.Fatalf("error %v, want one about %s", err, test.property)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q shows the password", err)
			}
		})
	}
}

func TestAddressFillsInThePort(t *testing.T) {
	for _, test := range []struct{ address, tls, want string }{
		{"ftp.example", tlsNone, "ftp.example:21"},
		{"ftp.example", tlsExplicit, "ftp.example:21"},
		{"ftp.example", tlsImplicit, "ftp.example:990"},
		{"ftp.example:2121", tlsImplicit, "ftp.example:2121"},
		{"[::1]", tlsNone, "[::1]:21"},
		{"::1", tlsNone, "[::1]:21"},
		{"[::1]:2121", tlsNone, "[::1]:2121"},
	} {
		p, err := newPool(connection{Address: test.address, TLS: test.tls, Connections: 1}, slog.Default())
		if err != nil {
			t.Errorf("%s: %v", test.address, err)
			continue
		}
		if p.end.addr != test.want {
			t.Errorf("%s with tls %s is %s, want %s", test.address, test.tls, p.end.addr, test.want)
		}
	}
}

func TestCAFileWithoutCertificateIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".missing"} {
		_, err := newPool(connection{Address: "ftp.example", TLS: tlsExplicit, CAFile: path, Connections: 1}, slog.Default())
		mustContain(t, err, "ca_file")
	}
}
