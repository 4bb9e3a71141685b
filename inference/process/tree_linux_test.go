package process

import "testing"

func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 2 3 4 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 99 0"))
	f.Add([]byte("1 (zombie) Z 2 3 4 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 99 0"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseStat(1, b) })
}

func TestStatNamesMayHoldAnything(t *testing.T) {
	s, ok := parseStat(1, []byte("1 (a) Z (b) S 2 3 4 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 99 0"))
	if !ok || s.ppid != 2 || s.pgrp != 3 || s.session != 4 || s.start != 99 || s.zombie {
		t.Errorf("stat = %+v, %t", s, ok)
	}
}
