package protocol

import (
	"strings"
	"testing"
)

// TestOutputNames: S16 of the attacks: a name means one file in one folder.
func TestOutputNames(t *testing.T) {
	for _, name := range []string{"a", "report.pdf", "résumé v2 (final).pdf", "画像_1.webp", "a..b", strings.Repeat("x", MaxOutputName)} {
		if err := CheckOutputName(name); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", ".ssh", "../x", "/etc/passwd", "a/b", `a\b`, "a\x00b", "a\nb", "a\x7fb", "\u202egnp.exe", "a\u2028b", "\ufeffa",
		"\u2025", "\uff0e\uff0e", "a\u2215b", "a%2fb", "a\xffb", strings.Repeat("x", MaxOutputName+1), strings.Repeat("x", 4096),
	} {
		if CheckOutputName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	for name, want := range map[string]string{"a.PDF": "pdf", "a.tar.gz": "gz", "a": "", "a.": ""} {
		if got := OutputFormat(name); got != want {
			t.Errorf("%q has format %q", name, got)
		}
	}
}

func FuzzOutputName(f *testing.F) {
	f.Add("a.pdf")
	f.Add("..")
	f.Fuzz(func(t *testing.T, name string) {
		if CheckOutputName(name) == nil && (strings.ContainsAny(name, "/\\\x00\r\n%") || name[0] == '.') {
			t.Fatalf("%q is accepted", name)
		}
	})
}
