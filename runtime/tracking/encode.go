package tracking

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// A step on the disk is a frame:
//
//	length of the payload  4 bytes, little-endian as all numbers
//	CRC-32C of the payload 4 bytes
//	payload:
//	  at                   8 bytes, nanoseconds since 1970
//	  message, location, key, kind, node, port, text, name
//	                       each its length as a varint, then its bytes
//	  attempt, size        varints
//	  context              the number of properties, then key and value of each
const frameHeader = 8

// maxPayload is more than the limits of a step allow to come about. A greater length is
// the sign of damage.
const maxPayload = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: the bytes are not what was once written.
var errDamaged = errors.New("damaged")

// appendFrame appends the step, within its limits, as a frame. The checksum is left
// for [stamp]: whoever notes a step need not wait for it.
func appendFrame(b []byte, st *Step) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = binary.LittleEndian.AppendUint64(b, uint64(st.At.UnixNano()))
	b = appendCut(b, st.Message, maxName)
	b = appendCut(b, st.Location, maxName)
	b = appendCut(b, st.Key, maxKey)
	b = appendCut(b, st.Kind, maxName)
	b = appendCut(b, st.Node, maxName)
	b = appendCut(b, st.Port, maxName)
	b = appendCut(b, st.Text, maxText)
	b = appendCut(b, st.Name, maxKey)
	b = binary.AppendUvarint(b, uint64(max(st.Attempt, 0)))
	b = binary.AppendUvarint(b, uint64(max(st.Size, 0)))
	if st.Kind == Received {
		b = appendContext(b, st.Context)
	} else {
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-frameHeader))
	return b
}

func appendCut(b []byte, s string, limit int) []byte {
	s, mark := cut(s, limit)
	b = binary.AppendUvarint(b, uint64(len(s)+len(mark)))
	b = append(b, s...)
	return append(b, mark...)
}

func appendContext(b []byte, context map[string]string) []byte {
	if len(context) == 0 {
		return append(b, 0)
	}
	// The number comes first and is known last. Two bytes hold any that fits into
	// maxContext, since a property takes two bytes at least.
	at, n := len(b), 0
	b = append(b, 0, 0)
	bounded(context, func(key, value, mark string) {
		n++
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
		b = binary.AppendUvarint(b, uint64(len(value)+len(mark)))
		b = append(b, value...)
		b = append(b, mark...)
	})
	b[at], b[at+1] = byte(n)|0x80, byte(n>>7)
	return b
}

// stamp writes the checksum of the frame at the beginning of b, and returns the
// frame's length.
func stamp(b []byte) int {
	n := frameHeader + int(binary.LittleEndian.Uint32(b))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[frameHeader:n], castagnoli))
	return n
}

// frame returns the payload of the frame at the beginning of b and the frame's length.
// A length of 0 means that no frame begins there or that it is not whole; with a length
// and errDamaged the next frame may still be found behind it.
func frame(b []byte) (payload []byte, length int, err error) {
	if len(b) < frameHeader {
		return nil, 0, errDamaged
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > maxPayload || int64(len(b)) < frameHeader+n {
		return nil, 0, errDamaged
	}
	payload, length = b[frameHeader:frameHeader+n], frameHeader+int(n)
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, length, errDamaged
	}
	return payload, length, nil
}

// head is the beginning of a step: what finding it takes. The slices are the payload's.
type head struct {
	at                int64
	message, location []byte
}

func decodeHead(payload []byte) (head, error) {
	if len(payload) < 8 {
		return head{}, errDamaged
	}
	r := reader[[]byte]{rest: payload[8:]}
	h := head{at: int64(binary.LittleEndian.Uint64(payload)), message: r.bytes(), location: r.bytes()}
	if r.bad {
		return head{}, errDamaged
	}
	return h, nil
}

// decodeStep is the inverse of appendFrame's payload.
func decodeStep(payload []byte) (Step, error) {
	if len(payload) < 8 {
		return Step{}, errDamaged
	}
	at := int64(binary.LittleEndian.Uint64(payload))
	r := reader[string]{rest: string(payload[8:])} // one allocation for all strings
	st := Step{
		At:      time.Unix(0, at).UTC(),
		Message: r.bytes(), Location: r.bytes(), Key: r.bytes(), Kind: r.bytes(),
		Node: r.bytes(), Port: r.bytes(), Text: r.bytes(), Name: r.bytes(),
		Attempt: int(min(r.number(), math.MaxInt32)), Size: int64(min(r.number(), math.MaxInt64)),
	}
	if n := r.number(); n > 0 && n <= uint64(len(r.rest)) {
		st.Context = make(map[string]string, n)
		for range n {
			key := r.bytes()
			st.Context[key] = r.bytes()
		}
	} else if n > 0 {
		r.bad = true
	}
	if r.bad || len(r.rest) > 0 {
		return Step{}, errDamaged
	}
	return st, nil
}

// reader takes numbers and strings off the front of rest. After the first that is not
// there it is bad, and gives zeros.
type reader[T string | []byte] struct {
	rest T
	bad  bool
}

func (r *reader[T]) number() uint64 {
	var v uint64
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		c := r.rest[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.rest = r.rest[i+1:]
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader[T]) bytes() T {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
	}
	if r.bad {
		return r.rest
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader[T]) fail() { r.bad, r.rest = true, r.rest[:0] }

// hashOf is FNV-1a folded to 32 bits. It is part of the format.
func hashOf[T string | []byte](s T) uint32 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	// FNV's high bits are weak for short strings, and the tables are sorted by them.
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return uint32(h >> 32)
}
