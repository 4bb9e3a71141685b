package auth

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"windlass/protocol"
)

func keyID(n int) (id protocol.KeyID) {
	binary.BigEndian.PutUint64(id[:], uint64(n+1))
	return id
}

func TestLimiter(t *testing.T) {
	l, now := NewLimiter(100, 0), time.Unix(1000, 0)
	for n := range 100 {
		if q := l.Take(keyID(1), ClassStatus, now); q.RetryAfter != 0 || q.Limit != 100 || q.Remaining != 99-n {
			t.Fatalf("request %d: %+v", n+1, q)
		}
	}
	if q := l.Take(keyID(1), ClassStatus, now); q.RetryAfter != 1 || q.Remaining != 0 || q.Reset != 60 {
		t.Errorf("one too many: %+v", q)
	}
	if q := l.Take(keyID(2), ClassStatus, now); q.RetryAfter != 0 {
		t.Errorf("another key: %+v", q)
	}
	if q := l.Take(keyID(1), ClassSubmit, now); q != (Quota{}) || l.Limits(ClassSubmit) {
		t.Errorf("a class without a limit: %+v", q)
	}
	for _, wait := range []time.Duration{600 * time.Millisecond, time.Minute} {
		now = now.Add(wait)
		if q := l.Take(keyID(1), ClassStatus, now); q.RetryAfter != 0 {
			t.Errorf("%s later: %+v", wait, q)
		}
	}
	if q := NewLimiter(2, 0).Take(keyID(1), ClassStatus, now); q.Reset != 30 {
		t.Errorf("half of the window: %+v", q)
	}
}

func TestFullBucketsAreForgotten(t *testing.T) {
	l, now := NewLimiter(100, 100), time.Unix(1000, 0)
	for n := range maxBuckets {
		l.Take(keyID(n), ClassStatus, now)
	}
	now = now.Add(2 * Window)
	l.Take(keyID(maxBuckets), ClassSubmit, now)
	if n := len(l.buckets); n != 1 {
		t.Errorf("%d buckets are kept", n)
	}
}

func TestTakeAllocatesOnce(t *testing.T) {
	l, now := NewLimiter(1_000_000, 0), time.Unix(1000, 0)
	l.Take(keyID(1), ClassStatus, now)
	if n := testing.AllocsPerRun(100, func() { l.Take(keyID(1), ClassStatus, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFailures(t *testing.T) {
	f, now := NewFailures(3), time.Unix(1000, 0)
	a := netip.MustParseAddr("192.0.2.1")
	for range 3 {
		if f.Exhausted(a, now) != 0 {
			t.Fatal("exhausted too soon")
		}
		f.Count(a, now)
	}
	if after := f.Exhausted(a, now); after != 20 {
		t.Errorf("exhausted for %d s", after)
	}
	for range 10 { // more failures do not make it worse
		f.Count(a, now)
	}
	if f.Exhausted(netip.MustParseAddr("::ffff:192.0.2.1"), now) == 0 || f.Exhausted(netip.MustParseAddr("192.0.2.2"), now) != 0 {
		t.Error("an address is taken for another")
	}
	if f.Exhausted(a, now.Add(20*time.Second)) != 0 {
		t.Error("it does not end")
	}
	for _, text := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:5::1"} {
		f.Count(netip.MustParseAddr(text), now)
	}
	if f.Exhausted(netip.MustParseAddr("2001:db8::ffff"), now) == 0 || f.Exhausted(netip.MustParseAddr("2001:db8:0:1::1"), now) != 0 {
		t.Error("an IPv6 network is not counted as one")
	}
	off := NewFailures(0)
	off.Count(a, now)
	if off.Exhausted(a, now) != 0 {
		t.Error("there is a limit although it is off")
	}
}

func TestFailuresAreBounded(t *testing.T) {
	f, now := NewFailures(3), time.Unix(1000, 0)
	for n := range maxAddresses + 100 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n))
		f.Count(netip.AddrFrom4(b), now)
	}
	if n := len(f.addresses); n > maxAddresses {
		t.Errorf("%d addresses are kept", n)
	}
}

func BenchmarkTake(b *testing.B) {
	l := NewLimiter(1<<30, 0)
	b.ReportAllocs()
	for b.Loop() {
		l.Take(keyID(1), ClassStatus, time.Now())
	}
}
