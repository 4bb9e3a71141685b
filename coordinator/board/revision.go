package board

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Revision orders everything that a job ever showed: the raft index of the
// row's last change, then the attempt, then the soft state's sequence number.
// Its text "<index>.<attempt>.<seq>" is the document's revision, its ETag and
// its SSE id (DESIGN 3.12).
type Revision struct {
	Index   uint64
	Attempt uint32
	Seq     uint64
}

// maxRevisionText is the longest text that ParseRevision can return a value
// for: two 20-digit and one 10-digit number and their dots.
const maxRevisionText = 20 + 1 + 10 + 1 + 20

// String returns the text form.
func (r Revision) String() string { return string(r.Append(make([]byte, 0, maxRevisionText))) }

// Append appends the text form.
func (r Revision) Append(b []byte) []byte {
	b = append(strconv.AppendUint(b, r.Index, 10), '.')
	b = append(strconv.AppendUint(b, uint64(r.Attempt), 10), '.')
	return strconv.AppendUint(b, r.Seq, 10)
}

// IsZero reports whether the revision was never set.
func (r Revision) IsZero() bool { return r == Revision{} }

// Compare returns -1, 0 or +1 as r is older than, equal to or newer than o.
func (r Revision) Compare(o Revision) int {
	return cmp.Or(cmp.Compare(r.Index, o.Index), cmp.Compare(r.Attempt, o.Attempt), cmp.Compare(r.Seq, o.Seq))
}

// ParseRevision reads the text form; only what String writes is accepted.
func ParseRevision(s string) (Revision, error) {
	index, rest, ok1 := strings.Cut(s, ".")
	attempt, seq, ok2 := strings.Cut(rest, ".")
	if len(s) > maxRevisionText || !ok1 || !ok2 {
		return Revision{}, fmt.Errorf("cannot parse revision: want <index>.<attempt>.<seq>")
	}
	i, err1 := strconv.ParseUint(index, 10, 64)
	a, err2 := strconv.ParseUint(attempt, 10, 32)
	n, err3 := strconv.ParseUint(seq, 10, 64)
	r := Revision{Index: i, Attempt: uint32(a), Seq: n}
	if err1 != nil || err2 != nil || err3 != nil || r.String() != s {
		return Revision{}, fmt.Errorf("cannot parse revision: want <index>.<attempt>.<seq>, three plain numbers")
	}
	return r, nil
}
