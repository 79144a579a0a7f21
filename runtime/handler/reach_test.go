package handler

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fairlead-io/fairlead/sdk"
)

type reachProperties struct {
	Address string `json:"address" reach:"21,tls=implicit:990"`
	Mirror  string `json:"mirror,omitempty" reach:"4222"`
	TLS     string `json:"tls" jsonschema:"enum=none,enum=implicit,default=none"`
	Note    string `json:"note,omitempty"`
	Proxy   string `json:"proxy,omitempty" reach:"1080,instead"`
}

func reaching(t *testing.T) Binary {
	t.Helper()
	schema, err := sdk.Schema[reachProperties]()
	if err != nil {
		t.Fatal(err)
	}
	return Binary{Name: "ftp", Receive: &Side{Schema: schema}}
}

func TestAddressesOfAnEndpoint(t *testing.T) {
	b := reaching(t)
	for _, c := range []struct {
		name       string
		properties map[string]any
		want       string
	}{
		{"host and port", map[string]any{"address": "ftp.example.com:2121"}, "[ftp.example.com:2121]"},
		{"host", map[string]any{"address": "ftp.example.com"}, "[ftp.example.com:21]"},
		{"host, another port by default", map[string]any{"address": "ftp.example.com", "tls": "implicit"}, "[ftp.example.com:990]"},
		{"host and port, another port by default", map[string]any{"address": "h:5", "tls": "implicit"}, "[h:5]"},
		{"IPv4", map[string]any{"address": "192.0.2.1"}, "[192.0.2.1:21]"},
		{"IPv6", map[string]any{"address": "2001:db8::1"}, "[[2001:db8::1]:21]"},
		{"IPv6 in brackets", map[string]any{"address": "[2001:db8::1]"}, "[[2001:db8::1]:21]"},
		{"IPv6 and port", map[string]any{"address": "[2001:db8::1]:2121"}, "[[2001:db8::1]:2121]"},
		{"URLs", map[string]any{"mirror": "nats://a:4223, tls://b,nats://[::1]"}, "[a:4223 b:4222 [::1]:4222]"},
		{"a URL's credentials and path", map[string]any{"mirror": "nats://user:secret@a/x?y"}, "[a:4222]"},
		{"two properties", map[string]any{"mirror": "b", "address": "a"}, "[a:21 b:4222]"},
		{"twice the same", map[string]any{"mirror": "a:1,a:1", "address": "a:1"}, "[a:1]"},
		{"unresolved", map[string]any{"address": "${env:FTP_HOST}"}, "[]"},
		{"no text", map[string]any{"address": 21}, "[]"},
		{"no address", map[string]any{"address": "a:b:c", "mirror": "://"}, "[]"},
		{"unmarked", map[string]any{"note": "see a:21"}, "[]"},
		{"nothing", nil, "[]"},
		{"by a proxy", map[string]any{"address": "a:21", "mirror": "b", "proxy": "socks5://p:1081"}, "[p:1081]"},
		{"by a proxy without a port", map[string]any{"address": "a:21", "proxy": "socks5://p"}, "[p:1080]"},
		{"by a proxy that is not resolved", map[string]any{"address": "a:21", "mirror": "z", "proxy": "${env:PROXY}"}, "[]"},
		{"with an empty proxy", map[string]any{"address": "a:21", "proxy": ""}, "[a:21]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(b.Addresses(true, c.properties)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if got := b.Addresses(false, map[string]any{"address": "a:1"}); got != nil {
		t.Errorf("of a side that it has not: %v", got)
	}
	if got := (Binary{Send: &Side{Schema: []byte("{")}}).Addresses(false, map[string]any{"address": "a:1"}); got != nil {
		t.Errorf("of a broken schema: %v", got)
	}
	odd := []byte(`{"properties":{"address":{"x-fairlead-reach":"yes"},"mirror":true,"tls":{"x-fairlead-reach":true,"x-fairlead-default-ports":7}}}`)
	if got := (Binary{Send: &Side{Schema: odd}}).Addresses(false, map[string]any{"address": "a:1", "mirror": "b:1", "tls": "c:3"}); fmt.Sprint(got) != "[c:3]" {
		t.Errorf("of keywords of another make: %v, want what can be understood", got)
	}
}

// The validator of deployments has to pass over keywords of ours.
func TestDeploymentsAreValidatedWithOurKeywordsInTheSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(reaching(t).Receive.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("properties.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("properties.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(map[string]any{"address": "a:21", "tls": "none"}); err != nil {
		t.Error(err)
	}
	if schema.Validate(map[string]any{"address": 21}) == nil {
		t.Error("a number was accepted as an address")
	}
}
