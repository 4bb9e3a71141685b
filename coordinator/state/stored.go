package state

import (
	"encoding/binary"

	"windlass/protocol"
)

// Stored is what one job has in the blob store for a while: its large output and
// its files. It counts against the quota of the organisation. It outlives the
// job's row, which may leave for the archive before; it ends with its time, or
// when the job gets another outcome.
type Stored struct {
	Job       protocol.JobID
	Org       string
	ExpiresMs int64 // on the FSM clock; of the job's Outcome.OutputsUntilMs
	Bytes     int64
	Blobs     [][32]byte // ascending
}

// storedID is the primary key: what expires first comes first.
type storedID struct {
	expiresMs int64
	job       protocol.JobID
}

func (id storedID) key() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(id.expiresMs)), id.job[:]...)
}

type storedIndex struct{}

func (storedIndex) FromObject(row any) (bool, []byte, error) {
	s := row.(*Stored)
	return true, storedID{s.ExpiresMs, s.Job}.key(), nil
}

func (storedIndex) FromArgs(args ...any) ([]byte, error) {
	if id, ok := args[0].(*storedID); ok && len(args) == 1 {
		return id.key(), nil
	}
	return nil, badArgs(tableStored, args)
}

// Stored calls fn for what every job has stored, what expires first at first,
// until it returns false.
func (v *View) Stored(fn func(*Stored) bool) {
	for s := range rows[Stored](v.tables, tableStored, &storedID{}) {
		if !fn(s) {
			return
		}
	}
}

// HasStored reports whether the outputs of a job that are kept until then are
// still there.
func (v *View) HasStored(job protocol.JobID, untilMs int64) bool {
	return first[Stored](v.tables, tableStored, &storedID{untilMs, job}) != nil
}

// StoredExpired reports whether the time of some stored outputs is over at the
// given clock.
func (v *View) StoredExpired(clockMs int64) bool {
	expired := false
	v.Stored(func(s *Stored) bool {
		expired = s.ExpiresMs <= clockMs
		return false
	})
	return expired
}

// StoredBytes returns how much an organisation has stored.
func (v *View) StoredBytes(org string) int64 {
	if o := first[Org](v.tables, tableOrgs, &org); o != nil {
		return o.Stored
	}
	return 0
}

// StoredBytes returns how much an organisation has stored.
func (t *Txn) StoredBytes(org string) int64 {
	if o := t.orgs.get(t.base, org); o != nil {
		return o.Stored
	}
	return 0
}

// Stored returns what a job has stored until then, or nil.
func (t *Txn) Stored(job protocol.JobID, untilMs int64) *Stored {
	return t.stored.get(t.base, storedID{untilMs, job})
}

// PutStored writes what a job has stored.
func (t *Txn) PutStored(s *Stored) { t.changeStored(storedID{s.ExpiresMs, s.Job}, s) }

func (t *Txn) changeStored(id storedID, after *Stored) {
	before := t.stored.get(t.base, id)
	if before == nil && after == nil {
		return
	}
	t.stored.put(t.base, id, after)
	if before != nil {
		t.bytes -= before.Size()
		t.ownOrg(before.Org).Stored -= before.Bytes
	}
	if after != nil {
		t.bytes += after.Size()
		t.ownOrg(after.Org).Stored += after.Bytes
	}
}

// replaceStored forgets what a job had stored when its outcome is another one.
// A row that leaves the table takes nothing with it.
func (t *Txn) replaceStored(before, after *Job) {
	if until := outputsUntil(before); until != 0 && after != nil && until != outputsUntil(after) {
		t.changeStored(storedID{until, before.ID}, nil)
	}
}

// DropStored forgets what a job has stored.
func (t *Txn) DropStored(j *Job) {
	if until := outputsUntil(j); until != 0 {
		t.changeStored(storedID{until, j.ID}, nil)
	}
}

func outputsUntil(j *Job) int64 {
	if j == nil || j.Outcome == nil {
		return 0
	}
	return j.Outcome.OutputsUntilMs
}

// DropExpiredStored forgets up to limit of the outputs whose time is over at the
// given clock, and returns how many.
func (t *Txn) DropExpiredStored(clockMs int64, limit int) int {
	var found []storedID
	t.base.Stored(func(s *Stored) bool {
		id := storedID{s.ExpiresMs, s.Job}
		if s.ExpiresMs > clockMs || len(found) == limit {
			return false
		}
		if _, edited := t.stored.edited(id); !edited {
			found = append(found, id)
		}
		return true
	})
	for _, id := range found {
		t.changeStored(id, nil)
	}
	return len(found)
}
