package builtin

import (
	"bufio"
	"context"
	_ "embed" // the model
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"windlass/inference"
	"windlass/inference/builtin/engine"
	"windlass/inference/command"
	"windlass/protocol"
)

// embeddedModel is the story model of model/README.md; it is only read.
//
//go:embed model/tiny-story.gguf
var embeddedModel []byte

const (
	engineName = "windlass-builtin"
	// embeddedName is the embedded model's name in outputs.
	embeddedName = "tiny-story"
	// maxRequest bounds a line from the agent: its own bound, and the envelope.
	maxRequest = command.MaxLine + 64<<10
	// maxInline is the largest output sent in a line; larger ones go through a file.
	maxInline = command.MaxLine - 64<<10
	// maxModel bounds a model file; weights expand up to four times in memory, and
	// larger models are too slow here to be of use (DESIGN.md).
	maxModel = 2 << 30
)

// Exit codes of Main.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitRefused = 3 // the handler or its model cannot run, and never will
)

// Why a job of the child ends before its result.
var (
	errJobCancelled = errors.New("the job was cancelled")
	errAgentGone    = errors.New("the agent closed the channel")
)

// handler runs jobs of one kind. The output is JSON. An error that is no
// *inference.Failure is the cause of ctx.
type handler interface {
	run(ctx context.Context, input json.RawMessage, t *teller) (json.RawMessage, error)
}

// Main is the child process: it reads requests from in (standard input), writes
// messages to out (the descriptor that WINDLASS_FD names) and what is meant for
// operators to talk (standard error). It returns the exit code when the agent
// closes in or asks for the end; running jobs are cancelled then.
func Main(args []string, in io.Reader, out, talk io.Writer) int {
	flags := flag.NewFlagSet(Subcommand, flag.ContinueOnError)
	flags.SetOutput(talk)
	name := flags.String("handler", "", strings.Join(handlerNames(), ", "))
	model := flags.String("model", "", "a GGUF file instead of the embedded model")
	slots := flags.Int("slots", 1, "jobs at once")
	var allow networks
	flags.Var(&allow, "fetch-allow", "a network beside the public ones that images may be read from")
	if flags.Parse(args) != nil {
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s := &server{
		ctx: ctx, channel: &channel{out: out, broken: cancel},
		jobs: map[string]context.CancelCauseFunc{},
	}
	if *name == HandlerImages {
		s.serveImages(allow.rule(), max(*slots, 1))
	} else if err := s.load(*name, *model, max(*slots, 1)); err != nil {
		_, _ = fmt.Fprintln(talk, err)
		return exitRefused
	}
	err := s.serve(in)
	cancel(errAgentGone)
	s.running.Wait()
	if cause := context.Cause(ctx); err == nil && cause != errAgentGone {
		err = fmt.Errorf("cannot write to the agent: %w", cause)
	}
	if err != nil {
		_, _ = fmt.Fprintln(talk, err)
		return exitFailure
	}
	return exitOK
}

// server is the state of the child.
type server struct {
	ctx     context.Context
	channel *channel
	handler handler
	running sync.WaitGroup

	mu   sync.Mutex
	jobs map[string]context.CancelCauseFunc // by id
}

// load makes the handler ready. Only what needs the model loads it.
func (s *server) load(name, path string, slots int) error {
	hello := reply{Type: "hello", Engine: engineName, Slots: slots}
	switch name {
	case HandlerEcho:
		s.handler = echo{}
		s.channel.send(hello)
		s.channel.send(reply{Type: "ready"})
		return nil
	case HandlerStory, HandlerDocument:
	default:
		return fmt.Errorf("cannot start handler %q: use %s", name, strings.Join(handlerNames(), ", "))
	}
	data, title := embeddedModel, embeddedName
	if path != "" {
		title = strings.TrimSuffix(filepath.Base(path), ".gguf")
	}
	hello.Model = title
	s.channel.send(hello)
	s.channel.send(reply{Type: "phase", Name: string(inference.PhaseModelLoad)})
	if path != "" {
		var err error
		if data, err = readModel(path); err != nil {
			return err
		}
	}
	model, err := engine.Load(data)
	if err != nil {
		return err
	}
	if name == HandlerStory {
		s.handler = story{model: model, name: title}
	} else {
		s.handler = document{model: model, name: title}
	}
	s.channel.send(reply{Type: "ready"})
	return nil
}

func readModel(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read model: %w; put the file on the agent or correct runtime.model", err)
	}
	if info.Size() > maxModel || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read model %s: it must be a file of at most %s; serve larger models with the openai runtime", path, protocol.FormatBytes(maxModel))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read model: %w; let the agent's user read the file", err)
	}
	return data, nil
}

// serve reads requests until the end of in.
func (s *server) serve(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxRequest)
	for lines.Scan() && s.ctx.Err() == nil {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("cannot read request: %w", err)
		}
		switch r.Type {
		case "job":
			s.start(r)
		case "cancel":
			s.mu.Lock()
			if cancel := s.jobs[r.ID]; cancel != nil {
				cancel(errJobCancelled)
			}
			s.mu.Unlock()
		case "shutdown":
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read request: %w", err)
	}
	return nil
}

// start runs one job in its own goroutine, which Main waits for.
func (s *server) start(r request) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.mu.Lock()
	s.jobs[r.ID] = cancel
	s.mu.Unlock()
	s.running.Go(func() {
		answer := s.run(ctx, r)
		s.mu.Lock()
		delete(s.jobs, r.ID)
		s.mu.Unlock()
		cancel(nil)
		s.channel.send(answer)
	})
}

// run returns the last message of a job.
func (s *server) run(ctx context.Context, r request) reply {
	output, err := s.invoke(ctx, r)
	if err == nil {
		return s.result(r, output)
	}
	f := &inference.Failure{}
	if !errors.As(err, &f) {
		f = &inference.Failure{Code: protocol.CodeHandlerError, Message: err.Error(), Retryable: true}
		if errors.Is(err, errJobCancelled) || errors.Is(err, errAgentGone) {
			f.Code = protocol.CodeCancelled
		}
	}
	return reply{Type: "error", ID: r.ID, Code: f.Code, Message: f.Message, Details: f.Details, Retryable: &f.Retryable, Partial: f.Partial}
}

func (s *server) invoke(ctx context.Context, r request) (json.RawMessage, error) {
	input := r.Input
	if r.InputFile != "" {
		path := r.InputFile
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Workdir, path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read input: %w", err)
		}
		input = data
	}
	return s.handler.run(ctx, input, &teller{id: r.ID, channel: s.channel, output: r.OutputDir})
}

// result sends an output, through a file when it is too large for a line.
func (s *server) result(r request, output json.RawMessage) reply {
	if len(output) <= maxInline {
		return reply{Type: "result", ID: r.ID, Output: output}
	}
	const name = "output.json"
	if err := os.WriteFile(filepath.Join(r.Workdir, name), output, 0o600); err != nil {
		yes := true
		return reply{Type: "error", ID: r.ID, Code: protocol.CodeHandlerError, Message: fmt.Sprintf("cannot write output: %v", err), Retryable: &yes}
	}
	return reply{Type: "result", ID: r.ID, OutputFile: name}
}
