package ledger

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// Encode turns a command into the bytes of a log entry.
func Encode(c *pb.Command) ([]byte, error) {
	data, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return data, nil
}

// Decode is the reverse of Encode. Its errors are ErrUnknown.
func Decode(data []byte) (*pb.Command, error) {
	c := &pb.Command{}
	if err := proto.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: command cannot be read: %w", ErrUnknown, err)
	}
	return c, nil
}

// refusals are the errors of Apply as they travel between nodes. Any other one
// leaves open whether the command is committed.
var refusals = []struct {
	code peerpb.ProposeReply_Refusal
	err  error
}{
	{peerpb.ProposeReply_FENCED, ErrFenced},
	{peerpb.ProposeReply_STALE, ErrStale},
	{peerpb.ProposeReply_UNKNOWN, ErrUnknown},
	{peerpb.ProposeReply_ILLEGAL, ErrIllegal},
	{peerpb.ProposeReply_NOT_LEADER, ErrNotLeader},
	{peerpb.ProposeReply_UNCLEAR, ErrUnclear},
	{peerpb.ProposeReply_TOO_OLD, ErrTooOld},
}

// Refusal puts what Apply returned into an answer to another node.
func Refusal(index uint64, err error) *peerpb.ProposeReply {
	if err == nil {
		return &peerpb.ProposeReply{Index: index}
	}
	r := &peerpb.ProposeReply{Index: index, Refusal: peerpb.ProposeReply_UNCLEAR, Text: err.Error()}
	for _, known := range refusals {
		if errors.Is(err, known.err) {
			r.Refusal = known.code
			break
		}
	}
	return r
}

// Err is the reverse of Refusal: what Apply returned on the node that answered.
func Err(r *peerpb.ProposeReply) error {
	if r.GetRefusal() == peerpb.ProposeReply_NONE {
		return nil
	}
	is := ErrUnclear
	for _, known := range refusals {
		if known.code == r.GetRefusal() {
			is = known.err
		}
	}
	return &refused{is: is, text: r.GetText()}
}

// refused is an error that came from another node: its text there, its kind here.
type refused struct {
	is   error
	text string
}

func (r *refused) Error() string {
	if r.text == "" {
		return r.is.Error()
	}
	return r.text
}

func (r *refused) Unwrap() error { return r.is }
