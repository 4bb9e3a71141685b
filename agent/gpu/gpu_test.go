package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the probe: real, hanging, or dying as one
// that called a missing symbol does.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "probe" {
		os.Exit(m.Run())
	}
	switch os.Args[2] {
	case "real":
		os.Exit(ProbeMain(os.Stdin, os.Stdout))
	case "hang":
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGUSR1) // without it the runtime sees a deadlock and exits
		<-never
	case "die":
		os.Exit(127)
	case "good":
		dec := json.NewDecoder(os.Stdin)
		for {
			var r request
			if dec.Decode(&r) != nil {
				os.Exit(0)
			}
			fmt.Println(`{"devices":[{"uuid":"GPU-1","name":"H","memory":5}],"samples":[{"uuid":"GPU-1","utilization":7}]}`)
		}
	}
}

func probe(kind string) []string { return []string{os.Args[0], "probe", kind} }

func TestProbeAnswers(t *testing.T) {
	src, devices, why, err := Open(t.Context(), "auto", probe("good"))
	if err != nil || why != nil || len(devices) != 1 || devices[0].UUID != "GPU-1" {
		t.Fatalf("%v %v %v", devices, why, err)
	}
	s, err := src.Samples(t.Context())
	if err != nil || len(s) != 1 || *s[0].Utilization != 7 || s[0].Power != nil {
		t.Errorf("%+v %v", s, err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

func TestProbeDiesAndIsStartedAgain(t *testing.T) {
	p := NewProbe(probe("die"))
	for range maxAbandoned + 2 {
		if _, err := p.Devices(t.Context()); err == nil || errors.Is(err, ErrHung) {
			t.Fatalf("got %v", err)
		}
	}
	p.command = probe("good")
	if d, err := p.Devices(t.Context()); err != nil || len(d) != 1 {
		t.Errorf("%v %v", d, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestHungDriverIsAbandoned(t *testing.T) {
	p := NewProbe(probe("hang"))
	for range maxAbandoned {
		if _, err := p.Samples(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := p.Samples(t.Context()); !errors.Is(err, ErrHung) {
		t.Errorf("got %v", err)
	}
}

func TestModes(t *testing.T) {
	if _, _, why, err := Open(t.Context(), "none", probe("die")); why != nil || err != nil {
		t.Errorf("none asks: %v %v", why, err)
	}
	src, devices, why, err := Open(t.Context(), "auto", probe("die"))
	if err != nil || why == nil || len(devices) != 0 {
		t.Errorf("auto: %v %v %v", devices, why, err)
	}
	if _, ok := src.(None); !ok {
		t.Errorf("auto without a GPU is %T", src)
	}
	if _, _, _, err := Open(t.Context(), "required", probe("die")); err == nil || !strings.Contains(err.Error(), "gpu.mode") {
		t.Errorf("required: %v", err)
	}
}

func TestRealProbeNeverDies(t *testing.T) {
	p := NewProbe(probe("real"))
	devices, err := p.Devices(t.Context())
	if err != nil && !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v %v", devices, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzProbeMain(f *testing.F) {
	f.Add([]byte(`{"ask":"devices"}` + "\n"))
	f.Add([]byte("{\nnull\n[]\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		ProbeMain(bytes.NewReader(in), &out)
		for line := range bytes.Lines(out.Bytes()) {
			if !json.Valid(line) {
				t.Errorf("answered %q", line)
			}
		}
	})
}
