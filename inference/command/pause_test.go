package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"windlass/inference"
	"windlass/protocol"
)

// pauses is what a handler does that offers checkpoints.
func (c *child) pauses(what string, m jobMessage) bool {
	asked, _ := c.pause.Load(m.ID)
	switch what {
	case "count":
		if len(m.Checkpoint) > 0 {
			c.send(`{"type":"result","id":%q,"output":{"from":%s,"s3":%s}}`, m.ID, m.Checkpoint, m.S3Config)
			return true
		}
		c.send(`{"type":"progress","id":%q,"percent":1}`, m.ID)
		<-asked.(chan struct{})
		c.send(`{"type":"checkpoint","id":%q,"data":{"step":3}}`, m.ID)
	case "unasked":
		c.send(`{"type":"checkpoint","id":%q,"data":1}`, m.ID)
		c.send(`{"type":"result","id":%q,"output":"done"}`, m.ID)
	case "ends":
		c.send(`{"type":"progress","id":%q,"percent":1}`, m.ID)
		<-asked.(chan struct{})
		c.send(`{"type":"result","id":%q,"output":"done"}`, m.ID)
	case "large checkpoint":
		c.send(`{"type":"progress","id":%q,"percent":1}`, m.ID)
		<-asked.(chan struct{})
		c.send(`{"type":"checkpoint","id":%q,"data":"%s"}`, m.ID, strings.Repeat("x", 2<<20))
	default:
		return false
	}
	return true
}

// paused runs a job, asks it to pause once it runs, and returns how it ended.
func paused(t *testing.T, in inference.Instance, what string) (inference.Result, error) {
	t.Helper()
	rec := record()
	type end struct {
		out inference.Result
		err error
	}
	done := make(chan end, 1)
	go func() {
		out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: text(what)}, rec.sink)
		done <- end{out, err}
	}()
	rec.await(t, inference.EventProgress)
	in.(inference.Pauser).Pause("job_1")
	in.(inference.Pauser).Pause("job_1")
	e := <-done
	return e.out, e.err
}

func TestAJobStopsAtACheckpointAndGoesOn(t *testing.T) {
	in, _ := open(t, specOf(t, "keeps"))
	if !in.Info().Checkpoint {
		t.Fatal("the handler's offer was not heard")
	}
	var p *inference.Paused
	if _, err := paused(t, in, "count"); !errors.As(err, &p) || string(p.Checkpoint) != `{"step":3}` {
		t.Fatalf("%v", err)
	}
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: text("count"), Checkpoint: p.Checkpoint, S3Config: json.RawMessage(`{"a":"b"}`)}, nil)
	if err != nil || string(out.Output) != `{"from":{"step":3},"s3":{"a":"b"}}` {
		t.Errorf("%s, %v", out.Output, err)
	}
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	out, err = in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: text("count"), Checkpoint: large}, nil)
	if err != nil || string(out.Output) != `{"bytes":1048578}` {
		t.Errorf("%s, %v", out.Output, err)
	}
}

func TestAPauseIsAQuestion(t *testing.T) {
	in, _ := open(t, specOf(t, "keeps"))
	if out, err := paused(t, in, "ends"); err != nil || string(out.Output) != `"done"` {
		t.Errorf("a job that ended instead: %s, %v", out.Output, err)
	}
	if out, _, err := call(t, in, "job_2", "unasked"); err != nil || string(out.Output) != `"done"` {
		t.Errorf("a checkpoint that nobody asked for: %s, %v", out.Output, err)
	}
	_, err := paused(t, in, "large checkpoint")
	if f := failureOf(t, err); f.Code != protocol.CodeRuntimeProtocol || f.Crashed || !strings.Contains(f.Message, "checkpoint") {
		t.Errorf("a checkpoint that is too large: %+v", f)
	}
}

// TestWhoOffersNoneIsNotAsked: a program that does not know the message would take
// it for a job.
func TestWhoOffersNoneIsNotAsked(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	if in.Info().Checkpoint {
		t.Fatal("it offers a checkpoint")
	}
	rec := record()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := in.Invoke(ctx, inference.Job{ID: "job_1", Input: text("ends")}, rec.sink)
		done <- err
	}()
	rec.await(t, inference.EventProgress)
	in.(inference.Pauser).Pause("job_1")
	cancel(inference.ErrCancelled)
	if err := <-done; !errors.Is(err, inference.ErrCancelled) {
		t.Errorf("%v", err)
	}
}
