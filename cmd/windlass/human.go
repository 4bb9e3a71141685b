package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"windlass/protocol"
)

// age is how long ago t was, in the largest unit that says enough.
func age(now time.Time, t protocol.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t.Std()))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// seconds shows a measured length with as many digits as it deserves.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", s*1000)
	case d < time.Minute:
		return fmt.Sprintf("%.2f s", s)
	default:
		return d.Round(time.Second).String()
	}
}

// remaining is a rough length: nobody believes the milliseconds of an estimate.
func remaining(d time.Duration) string {
	return max(0, d).Round(time.Second).String()
}

// grouped writes an integer with thousands apart.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && s[i-1] != '-' && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func percent(p *float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", *p)
}

// printable makes text from elsewhere safe for one line of a terminal: no
// control sequences, no line breaks.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
