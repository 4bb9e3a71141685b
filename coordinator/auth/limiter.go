package auth

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"windlass/protocol"
)

// Class is a kind of request that is counted by itself (DESIGN 4).
type Class uint8

// The classes.
const (
	ClassNone   Class = iota // is not counted
	ClassStatus              // reads of jobs; a batch or a stream counts once
	ClassSubmit
	classes
)

// String returns the name of the class' policy.
func (c Class) String() string {
	return [classes]string{"none", "status", "submit"}[c]
}

// Window is the time that limits are given for: "100 a minute".
const Window = time.Minute

// maxBuckets is when buckets that are full again are looked for and forgotten: a
// full one says no more than none.
const maxBuckets = 4096

// Quota is what is left of a limit.
type Quota struct {
	Limit     int `json:"limit,omitempty"`     // in a Window; 0: there is none
	Remaining int `json:"remaining,omitempty"` // requests that may come at once
	// Reset is how long it takes until Remaining is Limit again, in seconds.
	Reset int `json:"reset,omitempty"`
	// RetryAfter is how long it takes until the next request is allowed, in seconds;
	// 0: this one is.
	RetryAfter int `json:"retryAfter,omitempty"`
}

// Limiter counts the requests of keys in token buckets: a key that did not call
// for a while may send as many at once as its limit is, and then as many a
// minute.
type Limiter struct {
	limits [classes]int

	mu      sync.Mutex
	buckets map[bucket]*rate.Limiter
	sweepAt int
}

type bucket struct {
	key   protocol.KeyID
	class Class
}

// NewLimiter returns a limiter with so many requests a minute for each key; 0 is
// no limit.
func NewLimiter(status, submit int) *Limiter {
	l := &Limiter{buckets: make(map[bucket]*rate.Limiter), sweepAt: maxBuckets}
	l.limits[ClassStatus], l.limits[ClassSubmit] = status, submit
	return l
}

// Limits reports whether requests of the class are counted.
func (l *Limiter) Limits(class Class) bool { return l.limits[class] > 0 }

// Take counts one request of a key.
func (l *Limiter) Take(key protocol.KeyID, class Class, now time.Time) Quota {
	limit := l.limits[class]
	if limit == 0 {
		return Quota{}
	}
	b := l.bucket(bucket{key, class}, limit, now)
	ok := b.AllowN(now, 1)
	return quota(limit, b.TokensAt(now), ok)
}

// quota says what so many tokens mean.
func quota(limit int, tokens float64, ok bool) Quota {
	second := float64(limit) / Window.Seconds()
	q := Quota{Limit: limit, Remaining: max(int(tokens), 0), Reset: int(math.Ceil((float64(limit) - tokens) / second))}
	if !ok {
		q.RetryAfter = max(int(math.Ceil((1-tokens)/second)), 1)
	}
	return q
}

func (l *Limiter) bucket(id bucket, limit int, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[id]
	if b == nil {
		if len(l.buckets) >= l.sweepAt {
			sweep(l.buckets, now)
			l.sweepAt = max(2*len(l.buckets), maxBuckets)
		}
		b = newBucket(limit)
		l.buckets[id] = b
	}
	return b
}

func newBucket(limit int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(limit)/Window.Seconds()), limit)
}

// sweep forgets the buckets that are full.
func sweep[K comparable](buckets map[K]*rate.Limiter, now time.Time) {
	for id, b := range buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(buckets, id)
		}
	}
}
