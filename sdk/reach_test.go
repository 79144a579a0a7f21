package sdk

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

type reachServer struct {
	Address string `json:"address" jsonschema:"required"`
	TLS     string `json:"tls" jsonschema:"enum=none,enum=implicit,default=none"`
}

type reachDirect struct {
	Address string `json:"address" reach:"21,tls=implicit:990"`
	TLS     string `json:"tls" jsonschema:"default=none"`
}

type reachEmbedded struct {
	reachServer `reach:"address:110,tls=implicit:995"`
	Auth        string `json:"auth"`
}

func TestTheReachTagGoesIntoTheSchema(t *testing.T) {
	for _, c := range []struct {
		name  string
		t     reflect.Type
		ports map[string]any
	}{
		{"at the property", reflect.TypeFor[reachDirect](), map[string]any{"": "21", "tls=implicit": "990"}},
		{"at an embedded struct", reflect.TypeFor[reachEmbedded](), map[string]any{"": "110", "tls=implicit": "995"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := reflectSchema(c.t)
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Properties map[string]map[string]any
			}
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			address := got.Properties["address"]
			if address[wire.ReachKeyword] != true || !reflect.DeepEqual(address[wire.ReachPortsKeyword], c.ports) {
				t.Errorf("address is %v, want %s with ports %v", address, wire.ReachKeyword, c.ports)
			}
			if _, marked := got.Properties["tls"][wire.ReachKeyword]; marked {
				t.Error("tls is marked as an address")
			}
		})
	}
}

func TestTheReachTagMarksWhatIsReachedInstead(t *testing.T) {
	type byProxy struct {
		reachDirect
		Proxy string `json:"proxy" reach:"1080,instead"`
	}
	s, err := reflectSchema(reflect.TypeFor[byProxy]())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"address": nil, "proxy": true} {
		at, _ := s.Properties.Get(name)
		if at.Extras[wire.ReachKeyword] != true || at.Extras[wire.ReachInsteadKeyword] != want {
			t.Errorf("%s has the keywords %v; want %s to be %v", name, at.Extras, wire.ReachInsteadKeyword, want)
		}
	}
}

func TestWrongReachTagsAreFound(t *testing.T) {
	type noPort struct {
		Address string `json:"address" reach:"ftp"`
	}
	type noCondition struct {
		Address string `json:"address" reach:"21,990"`
	}
	type noProperty struct {
		reachServer `reach:"server:21"`
	}
	for _, c := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[noPort](), `"ftp" is not a port`},
		{reflect.TypeFor[noCondition](), `"990" is not PROPERTY=VALUE:PORT`},
		{reflect.TypeFor[noProperty](), `there is no property "server"`},
	} {
		if _, err := reflectSchema(c.t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.t, err, c.want)
		}
	}
}
