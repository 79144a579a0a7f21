package adaptertest

import (
	"encoding/json"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/internal/inproc"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// examineMost is how many names Examine asks for.
const examineMost = 3

// Examine has the adapter look at an endpoint with these properties, as `fairlead
// validate --live` does with `--items 3`, and returns what it says: see [sdk.Examiner].
func Examine(t testing.TB, a sdk.Adapter, receive bool, properties any) *adapterpb.Examination {
	t.Helper()
	return examine(t, a, &adapterpb.ExamineRequest{Endpoint: &adapterpb.Endpoint{Receive: receive}}, properties)
}

// ExamineWriting does the same of a send port with `--write-test`.
func ExamineWriting(t testing.TB, a sdk.Adapter, properties any) *adapterpb.Examination {
	t.Helper()
	return examine(t, a, &adapterpb.ExamineRequest{Endpoint: &adapterpb.Endpoint{}, WriteTest: true}, properties)
}

func examine(t testing.TB, a sdk.Adapter, r *adapterpb.ExamineRequest, properties any) *adapterpb.Examination {
	t.Helper()
	data, err := json.Marshal(properties)
	if err != nil {
		t.Fatalf("properties: %v", err)
	}
	srv, err := inproc.NewServer(a, inproc.Options{Exit: func(int) {}, Log: testLogger(t)})
	if err != nil {
		t.Fatalf("adapter is declared wrongly: %v", err)
	}
	r.Endpoint.Name, r.Endpoint.Properties, r.Endpoint.MaxInFlight, r.Most = "examined", data, 1, examineMost
	found, err := srv.Examine(t.Context(), r)
	if err != nil {
		t.Fatalf("examine: %v", err)
	}
	return found
}
