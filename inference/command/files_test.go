package command_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"windlass/inference"
	"windlass/protocol"
)

// handIn runs a job that hands files in.
func handIn(t *testing.T, in inference.Instance, what string) (inference.Result, *events, string, error) {
	t.Helper()
	rec, dir := record(), filepath.Join(t.TempDir(), "files")
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_" + what, Input: text("file " + what), Files: dir}, rec.sink)
	return out, rec, dir, err
}

func contentOf(t *testing.T, f inference.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if f.Size != int64(len(b)) || f.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%s has %d bytes of %x, told %d of %s", f.Name, len(b), sum, f.Size, f.SHA256)
	}
	return string(b)
}

func TestFilesAreHandedIn(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	out, rec, dir, err := handIn(t, in, "good")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for n, f := range out.Files {
		got = append(got, f.Name+"="+contentOf(t, f))
		if f.Path != filepath.Join(dir, string(rune('0'+n))) {
			t.Errorf("%s is at %s", f.Name, f.Path)
		}
	}
	if want := []string{"report.pdf=three", "again.bin=three", "renamed.txt=four", "a.txt=one", "b.txt=two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if string(out.Output) != `{"ok":true}` || string(out.Metrics) != `{"documentsGenerated":50}` {
		t.Errorf("%s %s", out.Output, out.Metrics)
	}
	finalizing := false
	for _, e := range rec.of(inference.EventState) {
		finalizing = finalizing || e.Substate == protocol.SubstateFinalizing
	}
	if !finalizing {
		t.Error("nobody was told that it is finalizing")
	}
}

// TestOtherThingsAreLeftOut: what is no file of the job in its outputs directory is
// told, and not taken (S16).
func TestOtherThingsAreLeftOut(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	out, rec, _, err := handIn(t, in, "left out")
	if err != nil || len(out.Files) != 1 || out.Files[0].Name != "kept" || contentOf(t, out.Files[0]) != "kept" {
		t.Fatalf("%+v %v", out.Files, err)
	}
	said := ""
	for _, e := range rec.of(inference.EventLog) {
		said += e.Line + "\n"
	}
	for _, name := range []string{"passwd", "inside", "folder", "fifo", ".hidden", `\xff`} {
		if !strings.Contains(said, `the file "`+name+`" is left out`) {
			t.Errorf("nothing was said of %s:\n%s", name, said)
		}
	}
	if out, _, _, err := handIn(t, in, "linked folder"); err != nil || len(out.Files) != 0 {
		t.Errorf("files of another folder: %+v %v", out.Files, err)
	}
}

func TestBadFilesFailTheJob(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	for _, what := range []string{"escape", "absolute", "link", "fifo", "device", "folder", "nothing", "dots", "path", "nul", "long", "twice"} {
		_, _, _, err := handIn(t, in, what)
		if f := failureOf(t, err); f.Code != protocol.CodeOutputInvalid || f.Crashed || f.Retryable {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, _, err := handIn(t, in, "many")
	if f := failureOf(t, err); f.Code != protocol.CodeOutputTooLarge {
		t.Errorf("many: %v", err)
	}
	if _, _, err := call(t, in, "job_last", "quick"); err != nil {
		t.Errorf("the job after: %v", err)
	}
}

func TestFilesOfAFailedJob(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	_, _, _, err := handIn(t, in, "fail")
	f := failureOf(t, err)
	if f.Code != "CUSTOM_CODE" || len(f.Files) != 1 || f.Files[0].Name != "partial.mp4" || contentOf(t, f.Files[0]) != "frames" {
		t.Errorf("%+v", f)
	}
}

// TestNobodyTakesFiles: without a directory for them they are not copied.
func TestNobodyTakesFiles(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	out, _, err := call(t, in, "job_1", "file good")
	if err != nil || out.Files != nil {
		t.Errorf("%+v %v", out, err)
	}
}
