package protocol

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "1024": 1024, "512MB": 512 << 20, "20GB": 20 << 30, "1.5GiB": 3 << 29, "8 kb": 8 << 10, "1T": 1 << 40} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "GB", "-1", "1XB", "1e300GB", "NaN"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d, want an error", text, s)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1 << 30: "1GB", 25 << 29: "12.5GB", 40 << 30: "40GB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %s, want %s", n, got, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("20GB")
	f.Add("1.5kib")
	f.Fuzz(func(t *testing.T, text string) {
		var s Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		out, _ := s.MarshalText()
		var back Size
		if err := back.UnmarshalText(out); err != nil || back != s {
			t.Errorf("%q is %d, written %s, read %d (%v)", text, s, out, back, err)
		}
	})
}

func TestDurationRefusesNegative(t *testing.T) {
	t.Parallel()
	var d Duration
	for _, text := range []string{"-1s", "5", "x", ""} {
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %v, want an error", text, d)
		}
	}
}

func TestTimeJSON(t *testing.T) {
	t.Parallel()
	at := TimeOf(time.Date(2024, 1, 15, 14, 30, 0, 123e6, time.UTC))
	b, err := json.Marshal(at)
	if err != nil || string(b) != `"2024-01-15T14:30:00.123Z"` {
		t.Errorf("got %s, %v", b, err)
	}
	var back Time
	if err := json.Unmarshal([]byte(`"2024-01-15T15:30:00.123+01:00"`), &back); err != nil || back != at {
		t.Errorf("got %v, %v; want %v", back, err, at)
	}
}
