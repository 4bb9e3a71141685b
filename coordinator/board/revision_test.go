package board

import "testing"

func TestRevisionOrder(t *testing.T) {
	ordered := []Revision{{}, {1, 0, 9}, {1, 1, 0}, {1, 1, 7}, {2, 0, 0}, {2, 1, 3}, {10, 1, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			want := min(max(i-j, -1), 1)
			if got := a.Compare(b); got != want {
				t.Errorf("%v against %v: got %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestParseRevisionRefuses(t *testing.T) {
	for _, s := range []string{"", "1", "1.2", "1.2.3.4", "a.b.c", "01.2.3", "+1.2.3", "1.2.3 ", "-1.0.0", "1.4294967296.0", "18446744073709551616.0.0"} {
		if r, err := ParseRevision(s); err == nil {
			t.Errorf("%q was read as %v", s, r)
		}
	}
}

func FuzzParseRevision(f *testing.F) {
	f.Add("1.2.3")
	f.Add("18446744073709551615.4294967295.18446744073709551615")
	f.Add("0.0.00")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRevision(s)
		if err == nil && r.String() != s {
			t.Fatalf("%q came back as %q", s, r.String())
		}
	})
}
