package coordinator

import (
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

func TestDefaultsNeedOnlyAKey(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "bootstrapKeyFile") {
		t.Fatalf("without a key: %v", err)
	}
	cfg.BootstrapKeyFile = "key"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.State.MaxBytes < minStateBytes || cfg.Archive.Keep.Std() != 30*24*time.Hour {
		t.Fatalf("defaults %+v", cfg)
	}
}

func TestValidateNamesFieldAndRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"no data":        {func(c *Config) { c.Data = "" }, []string{"data", "set it to"}},
		"listen":         {func(c *Config) { c.HTTP.Listen = "7400" }, []string{"http.listen", ":7400"}},
		"open peer port": {func(c *Config) { c.Peer.Listen = "0.0.0.0:7401" }, []string{"peer.listen", "127.0.0.1:7401", "windlass tls issue"}},
		"public url":     {func(c *Config) { c.HTTP.PublicURL = "windlass" }, []string{"http.publicUrl", "https://"}},
		"url with key":   {func(c *Config) { c.HTTP.PublicURL = "https://u:p@windlass" }, []string{"http.publicUrl", "https://"}},
		"keep":           {func(c *Config) { c.Archive.Keep = protocol.Duration(time.Second) }, []string{"archive.keep", "at least"}},
		"state":          {func(c *Config) { c.State.MaxBytes = 4 }, []string{"state.maxBytes", "at least"}},
		"level":          {func(c *Config) { c.Log.Level = "loud" }, []string{"log.level", "info"}},
		"tls":            {func(c *Config) { c.HTTP.TLS.Cert = "x" }, []string{"http.tls needs both", "windlass tls issue"}},
		"tls ca":         {func(c *Config) { c.HTTP.TLS.CA = "x" }, []string{"http.tls.ca", "remove it"}},
		"peer tls":       {func(c *Config) { c.Peer.TLS.CA = "x" }, []string{"peer.tls needs ca, cert and key", "windlass tls init"}},
		"expect":         {func(c *Config) { c.Expect = 3 }, []string{"expect is 3", "list the peer addresses"}},
		"no expect":      {func(c *Config) { c.Expect = 0 }, []string{"expect is 0"}},
		"join":           {func(c *Config) { c.Join = []string{"a:7401", "b"} }, []string{`join has "b"`, "coordinator-1:7401"}},
		"blob kind":      {func(c *Config) { c.Blob.Kind = "nfs" }, []string{"blob.kind is", "set it to dir or s3"}},
		"no endpoint":    {func(c *Config) { c.Blob.Kind, c.Blob.S3.Bucket = "s3", "b" }, []string{"blob.s3.endpoint is"}},
		"no bucket":      {func(c *Config) { c.Blob.Kind, c.Blob.S3.Endpoint = "s3", "s3.example.com" }, []string{"blob.s3.bucket is empty"}},
		"s3 endpoint":    {func(c *Config) { c.Blob.Kind, c.Blob.S3.Endpoint, c.Blob.S3.Bucket = "s3", "https://s3", "b" }, []string{"without a scheme"}},
		"half of a key": {func(c *Config) {
			c.Blob.Kind, c.Blob.S3 = "s3", S3Config{Endpoint: "s3", Bucket: "b", AccessKeyFile: "f"}
		}, []string{"set both"}},
		"bucket":       {func(c *Config) { c.Blob.S3.Bucket = "b" }, []string{"blob.s3 is set but blob.kind is dir"}},
		"after":        {func(c *Config) { c.Archive.After = 1 }, []string{"archive.after", "at least 30s"}},
		"count":        {func(c *Config) { c.Archive.Count = 0 }, []string{"archive.count", "for example 100000"}},
		"webhookAllow": {func(c *Config) { c.Limits.WebhookAllow = []string{"10.0.0.0/33"} }, []string{"limits.webhookAllow", "write an address or a network like 10.0.0.0/8"}},
		"webhookPorts": {func(c *Config) { c.Limits.WebhookPorts = []uint16{0} }, []string{"limits.webhookPorts", "443"}},
		"limits":       {func(c *Config) { c.Limits.Queue = -1 }, []string{"limits.queue", "remove it for 100000"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.BootstrapKeyFile = "key"
			c.change(&cfg)
			err := cfg.Validate()
			if err == nil || strings.Count(err.Error(), "\n") != 0 {
				t.Fatalf("want one error, got %v", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
		})
	}
}
