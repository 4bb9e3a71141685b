package protocol

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time in an endpoint document, as text: "600s", "24h".
type Duration time.Duration

// Std converts to time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; negative lengths are refused.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("cannot parse duration %q: write a number with a unit, such as 600s or 24h", clip(string(b)))
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes in an endpoint document, as text: "20GB", "512MB".
// Units count in powers of 1024, as nvidia-smi does; the most is 8 PB.
type Size int64

const sizeUnits = "KMGTP"

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) {
	v, unit := int64(s), "B"
	for i := 0; i < len(sizeUnits) && v != 0 && v%1024 == 0; i++ {
		v, unit = v/1024, sizeUnits[i:i+1]+"B"
	}
	return []byte(strconv.FormatInt(v, 10) + unit), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; a plain number is bytes.
func (s *Size) UnmarshalText(b []byte) error {
	t := strings.ToUpper(strings.TrimSpace(string(b)))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "B"), "I")
	mul := 1.0
	if n := len(t); n > 0 {
		if i := strings.IndexByte(sizeUnits, t[n-1]); i >= 0 {
			t = strings.TrimSpace(t[:n-1])
			for range i + 1 {
				mul *= 1024
			}
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	if err != nil || !(v >= 0 && v*mul <= 1<<53) {
		return fmt.Errorf("cannot parse size %q: write a number with a unit, such as 512MB or 20GB", clip(string(b)))
	}
	*s = Size(v * mul)
	return nil
}

// FormatBytes writes a byte count as the seeds show it: "12.5GB", "512MB".
func FormatBytes(n int64) string {
	v, unit := float64(n), "B"
	for i := 0; i < len(sizeUnits) && v >= 1024; i++ {
		v, unit = v/1024, sizeUnits[i:i+1]+"B"
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + unit
}
