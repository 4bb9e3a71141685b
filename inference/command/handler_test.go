package command_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// handlerVariable turns the test binary into the handler that it names.
const handlerVariable = "WINDLASS_TEST_HANDLER"

func TestMain(m *testing.M) {
	if name := os.Getenv(handlerVariable); name != "" {
		os.Exit(handle(name))
	}
	os.Exit(m.Run())
}

// child is the program side of the protocol, written out by hand.
type child struct {
	mu    sync.Mutex
	out   *os.File
	stops sync.Map // job id -> chan struct{}
	pause sync.Map // job id -> chan struct{}
}

type jobMessage struct {
	Type      string          `json:"type"`
	ID        string          `json:"id"`
	Input     json.RawMessage `json:"input"`
	InputFile string          `json:"inputFile"`
	Workdir   string          `json:"workdir"`
	OutputDir string          `json:"outputDir"`
	S3Config  json.RawMessage `json:"s3Config"`

	Checkpoint     json.RawMessage `json:"checkpoint"`
	CheckpointFile string          `json:"checkpointFile"`
}

func (c *child) send(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.out, format+"\n", args...)
}

func handle(name string) int {
	c := &child{out: os.Stdout}
	switch name {
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot load the model")
		return 3
	case "hang":
		c.send(`{"type":"hello"}`)
		select {}
	case "silent":
		// says nothing before its first job
	case "deaf":
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
		c.send(`{"type":"ready"}`)
	case "channel":
		c.out = os.NewFile(3, "channel")
		fmt.Println(`{"type":"result","output":"a stray print"}`)
		c.send(`{"type":"hello","engine":"test","model":"tiny"}`)
		c.send(`{"type":"ready"}`)
	case "keeps":
		c.send(`{"type":"hello","checkpoint":true}`)
		c.send(`{"type":"ready"}`)
	default:
		c.send(`{"type":"hello"}`)
		c.send(`{"type":"phase","name":"modelLoad"}`)
		c.send(`{"type":"ready"}`)
	}
	in := bufio.NewReaderSize(os.Stdin, 2<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var m jobMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return 9
		}
		switch m.Type {
		case "job":
			stop := make(chan struct{})
			c.stops.Store(m.ID, stop)
			c.pause.Store(m.ID, make(chan struct{}))
			go c.work(m, stop)
		case "pause":
			if pause, ok := c.pause.LoadAndDelete(m.ID); ok {
				close(pause.(chan struct{}))
			}
		case "cancel":
			if stop, ok := c.stops.LoadAndDelete(m.ID); ok && name != "deaf" {
				close(stop.(chan struct{}))
			}
		case "shutdown":
			if name != "deaf" {
				return 0
			}
		}
	}
}

// work runs one job; the input is the name of what to do, or is echoed.
func (c *child) work(m jobMessage, stop <-chan struct{}) {
	if m.CheckpointFile != "" {
		if b, err := os.ReadFile(m.CheckpointFile); err == nil {
			c.send(`{"type":"result","id":%q,"output":{"bytes":%d}}`, m.ID, len(b))
			return
		}
	}
	if m.InputFile != "" {
		b, err := os.ReadFile(m.InputFile)
		if err != nil {
			c.send(`{"type":"error","message":%q}`, err.Error())
			return
		}
		_ = os.WriteFile(m.Workdir+"/out.json", b, 0o600)
		c.send(`{"type":"result","id":%q,"outputFile":"out.json"}`, m.ID)
		return
	}
	var what string
	_ = json.Unmarshal(m.Input, &what)
	if c.odd(what, m) || c.files(what, m) || c.pauses(what, m) {
		return
	}
	switch what {
	case "long":
		c.send(`{"type":"progress","id":%q,"percent":1}`, m.ID)
		<-stop
		c.send(`{"type":"error","id":%q,"code":"CANCELLED","message":"stopped"}`, m.ID)
	case "progress":
		c.send(`{"type":"progress","id":%q,"percent":10,"step":"one","metadata":{"a":1},"throughput":{"value":2,"unit":"tokens/s"},"eta":1.5}`, m.ID)
		c.send(`{"type":"metric","id":%q,"name":"loss","value":0.5}`, m.ID)
		c.send(`{"type":"progress","id":%q,"percent":90}`, m.ID)
	case "chunks":
		for n := range 3 {
			c.send(`{"type":"chunk","id":%q,"data":{"n":%d}}`, m.ID, n)
		}
	case "log":
		fmt.Fprintln(os.Stderr, "windlass on stderr")
		c.send(`{"type":"log","id":%q,"message":"windlass as a message"}`, m.ID)
		fmt.Println("windlass on stdout")
	case "fail":
		c.send(`{"type":"error","id":%q,"code":"CUSTOM_CODE","message":"no","retryable":true,"details":{"k":1},"partial":[1]}`, m.ID)
		return
	case "crash":
		fmt.Fprintln(os.Stderr, "segmentation fault")
		os.Exit(7)
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	c.send(`{"type":"result","id":%q,"output":%s}`, m.ID, m.Input)
}

// odd does what a broken or careless program does.
func (c *child) odd(what string, m jobMessage) bool {
	switch what {
	case "nan":
		c.send(`{"type":"result","id":%q,"output":NaN}`, m.ID)
	case "utf8":
		c.send("{\"type\":\"result\",\"id\":%q,\"output\":\"\xff\xfe\"}", m.ID)
	case "deep":
		c.send(`{"type":"result","id":%q,"output":%s1%s}`, m.ID, strings.Repeat("[", 300), strings.Repeat("]", 300))
	case "huge":
		c.send(`{"type":"result","id":%q,"output":%q}`, m.ID, strings.Repeat("x", 4<<20))
	case "huge chunk":
		c.send(`{"type":"chunk","id":%q,"data":%q}`, m.ID, strings.Repeat("x", 4<<20))
		c.send(`{"type":"result","id":%q,"output":1}`, m.ID)
	case "escape":
		c.send(`{"type":"result","id":%q,"outputFile":"../../../../etc/hostname"}`, m.ID)
	case "large file":
		f, _ := os.Create(m.Workdir + "/large")
		_ = f.Truncate(65 << 20)
		c.send(`{"type":"result","id":%q,"outputFile":"large"}`, m.ID)
	case "garbage":
		for _, line := range []string{
			"{", "[]", "null", `{"type":5}`, `{"type":"unknown"}`, `{"type":"result","id":"nobody","output":1}`, "\x00\xff\x01",
			`{"type":"progress","percent":1e308}`, `{"type":"progress","percent":-50}`, `{"type":"progress","percent":"half"}`,
			`{"type":"progress","metadata":[1]}`, strings.Repeat("z", 3<<20),
		} {
			c.send("%s", line)
		}
		c.send(`{"type":"progress","percent":42}`)
		c.send(`{"type":"result","output":"fine"}`)
		// With its id: without one it would belong to whichever job runs when it is read.
		c.send(`{"type":"result","id":%q,"output":"twice"}`, m.ID)
	case "quiet":
		select {}
	case "flood":
		line := strings.Repeat("f", 1000)
		for range 8000 {
			fmt.Fprintln(os.Stderr, line)
		}
		c.send(`{"type":"result","output":1}`)
	case "orphans":
		cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & exec sleep 1000")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		_ = cmd.Start()
		c.send(`{"type":"result","output":%d}`, cmd.Process.Pid)
	case "no id":
		c.send(`{"type":"progress","percent":50}`)
		c.send(`{"type":"result","output":"no id"}`)
	default:
		return false
	}
	return true
}

// files hands in files, as it should and as it should not.
func (c *child) files(what string, m jobMessage) bool {
	name, ok := strings.CutPrefix(what, "file ")
	if !ok {
		return false
	}
	in := func(dir, name, content string) string {
		path := dir + "/" + name
		_ = os.WriteFile(path, []byte(content), 0o600)
		return path
	}
	named := func(path, name string) { c.send(`{"type":"file","id":%q,"path":%q,"name":%q}`, m.ID, path, name) }
	switch name {
	case "good":
		in(m.OutputDir, "b.txt", "two")
		in(m.OutputDir, "a.txt", "one")
		named(in(m.Workdir, "x.bin", "three"), "report.pdf")
		named("x.bin", "again.bin")
		named(in(m.OutputDir, "c.txt", "four"), "renamed.txt")
	case "left out":
		in(m.OutputDir, "kept", "kept")
		_ = os.Symlink("/etc/passwd", m.OutputDir+"/passwd")
		_ = os.Symlink("kept", m.OutputDir+"/inside")
		_ = os.Mkdir(m.OutputDir+"/folder", 0o700)
		_ = syscall.Mkfifo(m.OutputDir+"/fifo", 0o600)
		in(m.OutputDir, ".hidden", "x")
		in(m.OutputDir, "\xff", "x")
	case "linked folder":
		_ = os.Remove(m.OutputDir)
		_ = os.Symlink("/etc", m.OutputDir)
	case "many":
		for i := range 300 {
			in(m.OutputDir, fmt.Sprint(i), "x")
		}
	case "fail":
		in(m.OutputDir, "partial.mp4", "frames")
		named("nowhere", "")
		c.send(`{"type":"error","id":%q,"code":"CUSTOM_CODE","message":"no","partial":{"n":1}}`, m.ID)
		return true
	case "escape":
		named("../../../../../../etc/hostname", "h")
	case "absolute":
		named("/etc/hostname", "h")
	case "link":
		_ = os.Symlink("/etc/hostname", m.Workdir+"/link")
		named("link", "h")
	case "fifo":
		_ = syscall.Mkfifo(m.Workdir+"/fifo", 0o600)
		named("fifo", "h")
	case "device":
		named("/dev/zero", "h")
	case "folder":
		named("outputs", "h")
	case "nothing":
		named("nothing", "h")
	case "dots":
		named(in(m.Workdir, "x", "x"), "..")
	case "path":
		named(in(m.Workdir, "x", "x"), "a/b")
	case "nul":
		c.send(`{"type":"file","id":%q,"path":"x\u0000y","name":"h"}`, m.ID)
	case "long":
		named(in(m.Workdir, "x", "x"), strings.Repeat("x", 4096))
	case "twice":
		named(in(m.Workdir, "x", "x"), "h")
		named("x", "h")
	}
	c.send(`{"type":"result","id":%q,"output":{"ok":true},"metrics":{"documentsGenerated":50}}`, m.ID)
	return true
}
