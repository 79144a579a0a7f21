package handler

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

// Addresses returns the network addresses, as host:port, that an endpoint with these
// properties connects to, as far as the adapter's schema says which properties hold
// them: without repetition, in the order of the properties' names. What is not an
// address, such as a reference to a secret that has not been resolved, is left out.
// It is nil for an adapter that is on no network, or does not say. Where an endpoint
// goes by a proxy, the proxy's address is the only one.
func (b Binary) Addresses(receive bool, properties map[string]any) []string {
	side := b.Send
	if receive {
		side = b.Receive
	}
	if side == nil {
		return nil
	}
	var schema struct {
		Properties map[string]json.RawMessage
	}
	if json.Unmarshal(side.Schema, &schema) != nil {
		return nil
	}
	value := func(name string) any {
		if v, ok := properties[name]; ok {
			return v
		}
		var p struct{ Default any }
		_ = json.Unmarshal(schema.Properties[name], &p) // no default then
		return p.Default
	}
	var found []string
	byProxy := false
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		port, reach := reachOf(schema.Properties[name], value)
		text, ok := value(name).(string)
		if !reach || !ok {
			continue
		}
		if insteadOfOthers(schema.Properties[name]) && text != "" && !byProxy {
			byProxy, found = true, nil
		} else if byProxy {
			continue
		}
		for one := range strings.SplitSeq(text, ",") {
			if a := hostPort(strings.TrimSpace(one), port); a != "" && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	return found
}

// reachOf returns whether a property holds addresses, and the port of those that have
// none, which may depend on the values of others. A property whose schema is of
// another make than expected holds none.
func reachOf(property json.RawMessage, value func(string) any) (port string, reach bool) {
	var keywords map[string]json.RawMessage
	if json.Unmarshal(property, &keywords) != nil || json.Unmarshal(keywords[wire.ReachKeyword], &reach) != nil || !reach {
		return "", false
	}
	var ports map[string]string
	_ = json.Unmarshal(keywords[wire.ReachPortsKeyword], &ports) // none then
	port = ports[""]
	for _, condition := range slices.Sorted(maps.Keys(ports)) {
		other, want, ok := strings.Cut(condition, "=")
		if ok && fmt.Sprint(value(other)) == want {
			port = ports[condition]
		}
	}
	return port, true
}

// insteadOfOthers returns whether a property, where it is set, holds the only addresses.
func insteadOfOthers(property json.RawMessage) bool {
	var keywords map[string]json.RawMessage
	var instead bool
	return json.Unmarshal(property, &keywords) == nil &&
		json.Unmarshal(keywords[wire.ReachInsteadKeyword], &instead) == nil && instead
}

// hostPort makes host:port of an address, or nothing if it is none.
func hostPort(address, port string) string {
	if _, _, isURL := strings.Cut(address, "://"); isURL {
		u, err := url.Parse(address)
		if err != nil {
			return ""
		}
		address = u.Host // without credentials and path
	}
	if host, given, err := net.SplitHostPort(address); err == nil {
		address, port = host, given
	} else if inner, ok := strings.CutPrefix(address, "["); ok {
		address = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(address); err != nil && strings.Contains(address, ":") {
		return "" // neither host:port nor an IPv6 address
	}
	if address == "" || port == "" || strings.ContainsAny(address, " /@${}\r\n\t\x00") {
		return ""
	}
	return net.JoinHostPort(address, port)
}
