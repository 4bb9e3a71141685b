package coordinator

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/archive"
	"windlass/protocol"
	"windlass/protocol/netguard"
)

// Config is the coordinator's configuration file (DESIGN 7). Fields that a
// later version serves are known here and refused when set, so that nobody
// believes in a protection that is not there.
type Config struct {
	ID               string        `yaml:"id" json:"id,omitempty"` // a label in logs; identity is made with the data directory
	Data             string        `yaml:"data" json:"data"`
	HTTP             HTTPConfig    `yaml:"http" json:"http"`
	Peer             PeerConfig    `yaml:"peer" json:"peer"`
	Join             []string      `yaml:"join" json:"join,omitempty"`
	Expect           int           `yaml:"expect" json:"expect"`
	Blob             BlobConfig    `yaml:"blob" json:"blob"`
	Archive          ArchiveConfig `yaml:"archive" json:"archive"`
	State            StateConfig   `yaml:"state" json:"state"`
	BootstrapKeyFile string        `yaml:"bootstrapKeyFile" json:"bootstrapKeyFile"`
	Limits           LimitsConfig  `yaml:"limits" json:"limits"`
	Log              LogConfig     `yaml:"log" json:"log"`
}

// HTTPConfig is the API's listener.
type HTTPConfig struct {
	Listen    string    `yaml:"listen" json:"listen"`
	PublicURL string    `yaml:"publicUrl" json:"publicUrl,omitempty"` // base of URLs in answers, without /v2, and where agents are sent when this coordinator leads
	TLS       TLSConfig `yaml:"tls" json:"tls"`
}

// PeerConfig is the listener for other coordinators.
type PeerConfig struct {
	Listen    string    `yaml:"listen" json:"listen"`
	Advertise string    `yaml:"advertise" json:"advertise,omitempty"` // what others dial; listen when empty
	TLS       TLSConfig `yaml:"tls" json:"tls"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	CA   string `yaml:"ca" json:"ca,omitempty"`
	Cert string `yaml:"cert" json:"cert,omitempty"`
	Key  string `yaml:"key" json:"key,omitempty"`
}

// ArchiveConfig says how long ended jobs are kept.
type ArchiveConfig struct {
	After protocol.Duration `yaml:"after" json:"after"` // until they leave memory for the archive
	Count int               `yaml:"count" json:"count"` // in memory; with more, the oldest leave before
	Keep  protocol.Duration `yaml:"keep" json:"keep"`   // until they are removed
}

// StateConfig bounds the replicated state.
type StateConfig struct {
	MaxBytes protocol.Size `yaml:"maxBytes" json:"maxBytes"` // above it a submit is refused
}

// LimitsConfig bounds what callers do. All coordinators have the same.
type LimitsConfig struct {
	Queue    int `yaml:"queue" json:"queue,omitempty"` // jobs that may wait in an organisation that has no limit of its own; 0 is protocol.MaxQueueOrg
	Status   int `yaml:"status" json:"status"`         // reads of jobs a minute for each key; 0 is no limit
	Submit   int `yaml:"submit" json:"submit"`         // jobs that each key submits in a minute; 0 is no limit
	Failures int `yaml:"failures" json:"failures"`     // keys that are not valid a minute from one address; 0 is no limit
	// WebhookAllow is networks (CIDR) or addresses that webhooks may reach although
	// they are not public, on any port; WebhookPorts the ports of public ones.
	WebhookAllow []string `yaml:"webhookAllow" json:"webhookAllow,omitempty"`
	WebhookPorts []uint16 `yaml:"webhookPorts" json:"webhookPorts,omitempty"` // none is 443
	UpgradeURL   string   `yaml:"upgradeUrl" json:"upgradeUrl,omitempty"`     // where a limit is raised, as told to who meets it; empty is the organisation's own route
}

// maxQueue keeps the counter of a queue in 32 bits; memory ends long before.
const maxQueue = 1 << 30

// LogConfig is the log's level and format, as everywhere.
type LogConfig struct {
	Level  string `yaml:"level" json:"level,omitempty"`
	Format string `yaml:"format" json:"format,omitempty"`
}

const (
	// DefaultListen is the API's port (DESIGN 7).
	DefaultListen = ":7400"

	// DefaultPeerListen is the peers' port (DESIGN 7). Whoever reaches that port
	// without TLS can write the log, so by default it is not open to the network.
	DefaultPeerListen = "127.0.0.1:7401"

	// defaultKeep is the 30 days that seed S2 promises for results.
	defaultKeep = 30 * 24 * time.Hour

	// defaultStatus is the 100 a minute of seed S2.
	defaultStatus = 100

	// defaultFailures is far above what programs with an old key send, and far
	// below what guessing takes.
	defaultFailures = 60

	// maxRate is beyond what one coordinator answers.
	maxRate = 100_000_000

	// defaultAfter serves those who look for a result from memory, which is nearly
	// all: a client polls until the end, and a person comes back within the hour.
	defaultAfter = time.Hour

	// defaultCount is some 200 MB of ended jobs with small results.
	defaultCount = 100_000

	// minKeep lets a client that polls once a minute see its result.
	minKeep = time.Minute

	// minStateBytes holds a queue of some ten thousand small jobs; less is a
	// mistaken unit.
	minStateBytes = 16 << 20

	// fallbackStateBytes is used where the machine does not tell its memory.
	fallbackStateBytes = 1 << 30
)

// DefaultConfig is what an empty file means.
func DefaultConfig() Config {
	return Config{
		Data:    "/var/lib/windlass",
		HTTP:    HTTPConfig{Listen: DefaultListen},
		Peer:    PeerConfig{Listen: DefaultPeerListen},
		Expect:  1,
		Blob:    defaultBlob(),
		Archive: ArchiveConfig{After: protocol.Duration(defaultAfter), Count: defaultCount, Keep: protocol.Duration(defaultKeep)},
		State:   StateConfig{MaxBytes: defaultStateBytes()},
		Limits:  LimitsConfig{Status: defaultStatus, Failures: defaultFailures},
		Log:     LogConfig{Level: "info"},
	}
}

// defaultStateBytes is 40% of the memory that this process may use
// (DESIGN 3.10): as much again goes to what the garbage collector has not freed.
func defaultStateBytes() protocol.Size {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return fallbackStateBytes
	}
	total := int64(uint64(info.Totalram) * uint64(info.Unit))
	if raw, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			total = min(total, limit)
		}
	}
	return protocol.Size(max(total/5*2, minStateBytes))
}

// dir is where the coordinator's part of the data is.
func (c *Config) dir() string { return filepath.Join(c.Data, "coordinator") }

func (c *Config) blobDir() string {
	if c.Blob.Dir != "" {
		return c.Blob.Dir
	}
	return filepath.Join(c.dir(), "blobs")
}

// Validate returns every mistake at once; each line names the field and what
// to do.
func (c *Config) Validate() error {
	return errors.Join(slices.Concat(c.mistakes(), c.tlsMistakes())...)
}

func (c *Config) mistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		bad("data is empty: set it to a directory that this user may write")
	}
	if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil {
		bad("http.listen is %q: set it to host:port, for example %s", c.HTTP.Listen, DefaultListen)
	}
	if u, err := url.Parse(c.HTTP.PublicURL); c.HTTP.PublicURL != "" && (err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https")) {
		bad("http.publicUrl is %q: set it to the base that clients use, for example https://windlass.example.com", c.HTTP.PublicURL)
	}
	if c.BootstrapKeyFile == "" {
		bad("bootstrapKeyFile is empty, and no route is open without a key: write one with `openssl rand -hex 32 > FILE` and set bootstrapKeyFile to FILE")
	}
	if c.Expect < 1 {
		bad("expect is %d: set it to the number of coordinators, 1 for this one alone", c.Expect)
	}
	if c.Expect > 1 && len(c.Join) == 0 {
		bad("expect is %d and join is empty: list the peer addresses (host:port) of all coordinators in join, the same on each", c.Expect)
	}
	for _, addr := range c.Join {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			bad("join has %q: write host:port of a coordinator's peer port, for example coordinator-1:7401", addr)
		}
	}
	if after := c.Archive.After.Std(); after < archive.MinResidence {
		bad("archive.after is %s: set it to at least %s, or to archive.keep to keep ended jobs in memory", after, archive.MinResidence)
	}
	if c.Archive.Count < 1 {
		bad("archive.count is %d: set it to the number of ended jobs that may stay in memory, for example %d", c.Archive.Count, defaultCount)
	}
	if keep := c.Archive.Keep.Std(); keep < minKeep {
		bad("archive.keep is %s: set it to at least %s", keep, minKeep)
	}
	errs = append(errs, c.Blob.mistakes()...)
	if c.State.MaxBytes < minStateBytes {
		bad("state.maxBytes is %d: set it to at least %s", int64(c.State.MaxBytes), protocol.FormatBytes(minStateBytes))
	}
	if q := c.Limits.Queue; q < 0 || q > maxQueue {
		bad("limits.queue is %d: set it to a number of jobs between 1 and %d, or remove it for %d", q, maxQueue, protocol.MaxQueueOrg)
	}
	rate := func(name string, n int) {
		if n < 0 || n > maxRate {
			bad("%s is %d: set it to a number a minute between 1 and %d, or 0 for no limit", name, n, maxRate)
		}
	}
	rate("limits.status", c.Limits.Status)
	rate("limits.submit", c.Limits.Submit)
	rate("limits.failures", c.Limits.Failures)
	if _, err := netguard.ParseNetworks(c.Limits.WebhookAllow); err != nil {
		bad("limits.webhookAllow: %w", err)
	}
	if slices.Contains(c.Limits.WebhookPorts, 0) {
		bad("limits.webhookPorts has 0: list the ports of public receivers, for example 443, or remove it for 443 alone")
	}
	if _, err := zerolog.ParseLevel(c.Log.Level); err != nil {
		bad("log.level is %q: set it to debug, info, warn or error", c.Log.Level)
	}
	return errs
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
