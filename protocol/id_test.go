package protocol

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestIDsRoundTrip(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_123)
	job := NewJobID(now)
	if got := job.CreatedAt(); got != TimeOf(now) {
		t.Errorf("job id carries %v, want %v", got, TimeOf(now))
	}
	parsed, err := ParseJobID(job.String())
	if err != nil || parsed != job {
		t.Errorf("ParseJobID(%s) = %v, %v", job, parsed, err)
	}
	agent := NewAgentID(now)
	if parsed, err := ParseAgentID(agent.String()); err != nil || parsed != agent {
		t.Errorf("ParseAgentID(%s) = %v, %v", agent, parsed, err)
	}
	inc := NewIncarnation(now)
	if parsed, err := ParseIncarnation(inc.String()); err != nil || parsed != inc {
		t.Errorf("ParseIncarnation(%s) = %v, %v", inc, parsed, err)
	}
	doc := HeldAttempt{Job: job, Attempt: 3}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var back HeldAttempt
	if err := json.Unmarshal(b, &back); err != nil || back != doc {
		t.Errorf("%s decoded to %v, %v", b, back, err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	a, b := NewJobID(time.UnixMilli(1000)), NewJobID(time.UnixMilli(1001))
	if a.String() >= b.String() {
		t.Errorf("%s sorts after %s", a, b)
	}
}

func TestParseJobIDRefuses(t *testing.T) {
	t.Parallel()
	good := NewJobID(time.UnixMilli(1)).String()
	for _, s := range []string{"", "job_", "job_invalid", "job_1234567890abcdef", "agt_" + good[4:], strings.ToLower(good), good + "0", "job_ZZZZZZZZZZZZZZZZZZZZZZZZZZ", good[:len(good)-1] + "!", strings.Repeat("x", 1<<16)} {
		if id, err := ParseJobID(s); err == nil {
			t.Errorf("ParseJobID(%q) = %v, want an error", clip(s), id)
		} else if len(err.Error()) > 300 {
			t.Errorf("the error repeats %d characters of the caller", len(err.Error()))
		}
	}
}

func FuzzParseJobID(f *testing.F) {
	f.Add(NewJobID(time.UnixMilli(1)).String())
	f.Add("job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseJobID(s); err == nil && id.String() != s {
			t.Errorf("%q parsed to %s", s, id)
		}
	})
}
