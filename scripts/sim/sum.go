package main

import (
	"encoding/binary"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
)

// mix is a sum that depends on the order of what goes in (FNV-1a, eight bytes at
// a time). It is for finding differences that nobody makes on purpose.
type mix uint64

const (
	mixStart mix = 14695981039346656037
	mixPrime mix = 1099511628211
)

func (m *mix) number(n uint64) { *m = (*m ^ mix(n)) * mixPrime; *m ^= *m >> 32 }

func (m *mix) bytes(b []byte) {
	m.number(uint64(len(b)))
	for len(b) >= 8 {
		m.number(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		m.number(uint64(c))
	}
}

func (m *mix) text(s string) {
	m.number(uint64(len(s)))
	for i := range len(s) {
		m.number(uint64(s[i]))
	}
}

func (m *mix) flag(b bool) {
	if b {
		m.number(1)
	} else {
		m.number(0)
	}
}

// sum is what replicas' answers to one entry are compared by.
func sum(results []command.Result) uint64 {
	m := mixStart
	for i := range results {
		r := &results[i]
		m.text(string(r.Code))
		m.bytes(r.Job[:])
		m.number(uint64(r.Attempt)<<32 | uint64(r.Run))
		m.number(r.Index)
		m.number(r.Revision)
		m.number(uint64(r.CreatedMs))
		m.number(uint64(r.Count))
		m.flag(r.Replayed)
		for _, k := range r.Current {
			m.bytes(k.Job[:])
			m.number(uint64(k.Attempt))
		}
	}
	return uint64(m)
}

// rowSum is what replicas' rows are compared by after every entry; digests, which
// see all of a row, are compared at each checkpoint and at the end.
func rowSum(j *state.Job) uint64 {
	m := mixStart
	for _, n := range []uint64{
		j.Index, j.Seq, uint64(j.Status)<<32 | uint64(j.Priority), uint64(j.Attempt)<<32 | uint64(j.Run),
		uint64(j.Failures)<<16 | uint64(j.Losses), uint64(j.CreatedMs), uint64(j.NotBeforeMs),
	} {
		m.number(n)
	}
	m.flag(j.Adoptable)
	m.text(j.Target)
	if l := j.Lease; l != nil {
		m.bytes(l.Agent[:])
		m.bytes(l.Incarnation[:])
		m.number(uint64(l.GrantedMs))
		m.number(l.Revision)
	}
	if o := j.Outcome; o != nil {
		m.bytes(o.Output.Inline)
		m.number(uint64(o.EndedMs))
		m.number(uint64(o.StartedMs))
		m.number(uint64(o.Attempt))
		m.text(string(o.ErrCode))
		m.flag(o.Reported)
	}
	if j.Extra != nil {
		m.number(uint64(j.Extra.ReopenedMs))
	}
	return uint64(m)
}
