package builtin

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

const (
	// echoSteps and echoEvery bound the progress messages of a sleep.
	echoSteps = 100
	echoEvery = 100 * time.Millisecond
	// maxSleep is the longest that a job may run at all.
	maxSleep = protocol.MaxPolicyTime
	// maxFailText bounds the message of a failure asked for.
	maxFailText = 1000

	stepSleeping = "sleeping"
)

// echo returns its input. It serves to try a cluster: it sleeps and fails as told.
type echo struct{}

func (echo) run(ctx context.Context, input json.RawMessage, t *teller) (json.RawMessage, error) {
	var sleep time.Duration
	var failure *inference.Failure
	if trimmed := bytes.TrimSpace(input); len(trimmed) > 0 && trimmed[0] == '{' {
		in := readFields(input)
		sleep = time.Duration(in.number("sleep", 0, 0, maxSleep.Seconds()) * float64(time.Second))
		failure = in.failure()
		if in.err != nil {
			return nil, in.err
		}
	}
	if sleep > 0 {
		if err := snooze(ctx, sleep, t); err != nil {
			return nil, err
		}
	}
	if failure != nil {
		return nil, failure
	}
	if len(input) == 0 {
		return json.RawMessage("null"), nil
	}
	return input, nil
}

// snooze waits and tells how far it is; it ends early with the cause of ctx.
func snooze(ctx context.Context, length time.Duration, t *teller) error {
	started := time.Now()
	tick := time.NewTicker(max(length/echoSteps, echoEvery))
	defer tick.Stop()
	end := time.NewTimer(length)
	defer end.Stop()
	for {
		elapsed := min(time.Since(started), length)
		percent, left := 100*float64(elapsed)/float64(length), (length - elapsed).Seconds()
		t.progress(reply{Percent: &percent, Step: stepSleeping, ETA: &left})
		if elapsed == length {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
		case <-tick.C:
		}
	}
}

// failure reads input.fail: true, or {code, message, retryable}.
func (f *fields) failure() *inference.Failure {
	v := f.take("fail")
	var yes bool
	if v == nil || json.Unmarshal(v, &yes) == nil && !yes {
		return nil
	}
	fail := &inference.Failure{Code: protocol.CodeHandlerError, Message: "the input asked for a failure"}
	if yes {
		return fail
	}
	var asked struct {
		Code      protocol.Code `json:"code"`
		Message   string        `json:"message"`
		Retryable bool          `json:"retryable"`
	}
	if json.Unmarshal(v, &asked) != nil {
		f.fail("fail", "must be true, false or {code, message, retryable}")
		return nil
	}
	if asked.Code != "" {
		if !regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`).MatchString(string(asked.Code)) {
			f.fail("fail", "code must be upper snake case, such as OUT_OF_PAPER")
			return nil
		}
		fail.Code = asked.Code
	}
	if len(asked.Message) > maxFailText {
		f.fail("fail", "message must be shorter")
		return nil
	}
	if asked.Message != "" {
		fail.Message = asked.Message
	}
	fail.Retryable = asked.Retryable
	return fail
}
