package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func TestRouteTestSendsTheMessageOfTheCommandLine(t *testing.T) {
	kept := map[string]string{"ftp.name": "order-7.edi", "fairlead.location": "supplier-orders"}
	for name, tt := range map[string]struct {
		args []string
		want api.RouteRequest
	}{
		"made up": {[]string{"--location", "mail", "--adapter", "imap", "--context", "mail.subject=a=b,c", "--context", "x="},
			api.RouteRequest{Location: "mail", Adapter: "imap", Context: map[string]string{"mail.subject": "a=b,c", "x": ""}}},
		"by a file": {[]string{"--location", "mail", "-f", "-"},
			api.RouteRequest{Location: "mail", Name: "stdin.yaml", Source: "hosts: {}"}},
		"one that there is": {[]string{"--message", suspendedID},
			api.RouteRequest{Location: "supplier-orders", Context: kept}},
		"one that there is, changed": {[]string{"--message", suspendedID, "--location", "mail", "--context", "ftp.name=b", "--context", "fairlead.location=mail"},
			api.RouteRequest{Location: "mail", Context: map[string]string{"ftp.name": "b", "fairlead.location": "mail"}}},
		"one without a context": {[]string{"--message", settledID, "--context", "ftp.name=b"},
			api.RouteRequest{Location: "supplier-orders", Context: map[string]string{"ftp.name": "b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			node := quietNode()
			env := environment{in: strings.NewReader("hosts: {}")}
			r := fairleadIn(t, env, append([]string{"route", "test", "--address", serve(t, node)}, tt.args...)...)
			if r.code != exitDone || len(node.tested) != 1 {
				t.Fatalf("exit status %d (%s), asked %d times", r.code, r.err, len(node.tested))
			}
			if got := node.tested[0]; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestNamesOfEndpointsAndMessagesAreCompleted(t *testing.T) {
	address := serve(t, quietNode())
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"location", "stop", ""}, "supplier-orders"},
		{[]string{"port", "show", ""}, "erp"},
		{[]string{"message", "show", ""}, suspendedID + "\torder-7.edi"},
		{[]string{"message", "discard", suspendedID, ""}, suspendedID},
		{[]string{"message", "resume", "--to", ""}, "erp"},
		{[]string{"message", "list", "--location", ""}, "supplier-orders"},
		{[]string{"route", "test", "--message", ""}, suspendedID},
		{[]string{"events", "--kind", ""}, "items-resumed"},
	} {
		r := fairlead(t, append([]string{"__complete", "--address", address}, tt.args...)...)
		if !strings.Contains(r.out, tt.want) {
			t.Errorf("%q: got %q, want %q among it", tt.args, r.out, tt.want)
		}
	}
}
