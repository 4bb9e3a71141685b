package coordinator

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func onDisk(t *testing.T, data string) Config {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Data, cfg.BootstrapKeyFile = data, key
	cfg.HTTP.Listen, cfg.Peer.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

func TestRunServesAndStops(t *testing.T) {
	data := t.TempDir()
	var identity string
	for range 2 { // the second run finds what the first one left
		c, err := New(onDisk(t, data), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		<-c.Ready()
		res, err := http.Get("http://" + c.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("/readyz: %s, %v", res.Status, err)
		}
		if id := c.node.Identity().ServerID; identity == "" {
			identity = id
		} else if id != identity {
			t.Fatalf("server id changed from %s to %s", identity, id)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunEndsAtOnceWhenCancelledBefore(t *testing.T) {
	c, err := New(onDisk(t, t.TempDir()), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesWithARemedy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running, err := New(onDisk(t, t.TempDir()), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		if err := running.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"taken port":     {func(c *Config) { c.HTTP.Listen = taken.Addr().String() }, "set http.listen to a free address"},
		"no key file":    {func(c *Config) { c.BootstrapKeyFile = "/nowhere" }, "write a key of at least"},
		"data in use":    {func(c *Config) { c.Data = running.cfg.Data }, "stop that coordinator"},
		"bad data":       {func(c *Config) { c.Data = "/dev/null" }, "set data to a directory"},
		"peer port":      {func(c *Config) { c.Peer.Listen = taken.Addr().String() }, "set peer.listen to a free address"},
		"bad blob place": {func(c *Config) { c.Blob.Dir = "/dev/null" }, "set blob.dir to a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := onDisk(t, t.TempDir())
			c.change(&cfg)
			if _, err := New(cfg, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
		})
	}
}
