package protocol

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Time is a moment in unix milliseconds; 0 means unset. Its JSON is RFC 3339
// in UTC with milliseconds.
type Time int64

const timeLayout = "2006-01-02T15:04:05.000Z"

// TimeOf converts a time.Time.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// Std converts to time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// IsZero reports whether the time is unset; it drives omitzero.
func (t Time) IsZero() bool { return t == 0 }

// Sub returns the time between u and t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Millisecond }

// Add returns t moved by d, rounded towards zero to milliseconds.
func (t Time) Add(d time.Duration) Time { return t + Time(d/time.Millisecond) }

// String returns the JSON form without quotes.
func (t Time) String() string { return t.Std().Format(timeLayout) }

// AppendJSON appends the quoted form.
func (t Time) AppendJSON(b []byte) []byte {
	b = append(b, '"')
	b = t.Std().AppendFormat(b, timeLayout)
	return append(b, '"')
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return t.AppendJSON(make([]byte, 0, len(timeLayout)+2)), nil
}

// UnmarshalJSON implements json.Unmarshaler; any RFC 3339 offset is accepted.
func (t *Time) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*t = 0
		return nil
	}
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("cannot parse time %s: %w", clip(string(b)), err)
	}
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("cannot parse time: %w", err)
	}
	*t = TimeOf(v)
	return nil
}
