package membership

import (
	"errors"
	"fmt"
	"math"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/encoding/protowire"
)

// Meta is what a node says of itself in the gossip. It must stay small: 512 bytes
// is memberlist's limit. Everything bigger goes through the ledger.
type Meta struct {
	// Incarnation is new at every start: without it a quick restart is invisible.
	Incarnation string
	// ClusterAddress is where the node's cluster port is.
	ClusterAddress string
	Role           string
	Version        string
	// Expect is cluster.bootstrap_expect.
	Expect int
	// HasState: the node's directory has been part of a cluster.
	HasState bool
	Draining bool
	// ClusterID is the cluster that the node has been part of; empty: none yet.
	ClusterID string
	// Disk names the disk that holds the node's part of the ledger.
	Disk string

	leaving bool // it stops in order; set by Leave
}

const metaFormat = 1

// check refuses what does not fit: memberlist would end the process.
func (m Meta) check() error {
	if n := len(m.encode(math.MaxInt)); n > memberlist.MetaMaxSize {
		return fmt.Errorf("node metadata: %d bytes, of %d that gossip takes; shorten the cluster address (listen.cluster)", n, memberlist.MetaMaxSize)
	}
	return nil
}

func (m Meta) encode(limit int) []byte {
	b := []byte{metaFormat}
	text := func(field protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendTag(b, field, protowire.BytesType)
			b = protowire.AppendString(b, s)
		}
	}
	number := func(field protowire.Number, v uint64) {
		if v != 0 {
			b = protowire.AppendTag(b, field, protowire.VarintType)
			b = protowire.AppendVarint(b, v)
		}
	}
	text(1, m.Incarnation)
	text(2, m.ClusterAddress)
	text(3, m.Role)
	text(4, m.Version)
	number(5, uint64(max(m.Expect, 0)))
	number(6, protowire.EncodeBool(m.HasState))
	number(7, protowire.EncodeBool(m.Draining))
	number(8, protowire.EncodeBool(m.leaving))
	text(9, m.ClusterID)
	text(10, m.Disk)
	if len(b) > limit {
		return b[:1] // never, by check: memberlist would panic
	}
	return b
}

func decodeMeta(b []byte) (m Meta, err error) {
	if len(b) == 0 || b[0] != metaFormat {
		return m, errors.New("unknown format of node metadata")
	}
	for b = b[1:]; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, fmt.Errorf("node metadata: %w", protowire.ParseError(n))
		}
		b = b[n:]
		var text string
		var v uint64
		switch kind {
		case protowire.BytesType:
			text, n = protowire.ConsumeString(b)
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return m, fmt.Errorf("node metadata: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch field {
		case 1:
			m.Incarnation = text
		case 2:
			m.ClusterAddress = text
		case 3:
			m.Role = text
		case 4:
			m.Version = text
		case 5:
			m.Expect = int(min(v, math.MaxInt)) // never negative, whoever sends it
		case 6:
			m.HasState = protowire.DecodeBool(v)
		case 7:
			m.Draining = protowire.DecodeBool(v)
		case 8:
			m.leaving = protowire.DecodeBool(v)
		case 9:
			m.ClusterID = text
		case 10:
			m.Disk = text
		}
	}
	return m, nil
}
