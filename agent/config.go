package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"windlass/protocol/netguard"
)

// Config is the agent's configuration file (DESIGN 7).
type Config struct {
	Name           string            `yaml:"name" json:"name"`
	Data           string            `yaml:"data" json:"data"`
	Coordinators   []string          `yaml:"coordinators" json:"coordinators"`
	CA             string            `yaml:"ca" json:"ca,omitempty"`
	CredentialFile string            `yaml:"credentialFile" json:"credentialFile,omitempty"`
	Pool           string            `yaml:"pool" json:"pool,omitempty"`
	Orgs           []string          `yaml:"orgs" json:"orgs,omitempty"` // organisations to serve; none: all that the credential allows
	Labels         map[string]string `yaml:"labels" json:"labels,omitempty"`
	Slots          int               `yaml:"slots" json:"slots"` // jobs at once
	GPU            GPUConfig         `yaml:"gpu" json:"gpu"`
	Runtimes       RuntimesConfig    `yaml:"runtimes" json:"runtimes"`
	HTTP           HTTPConfig        `yaml:"http" json:"http"`
	Log            LogConfig         `yaml:"log" json:"log"`
}

// GPUConfig says how GPUs are found: auto, required or none (agent.md 5.6).
type GPUConfig struct {
	Mode string `yaml:"mode" json:"mode"`
}

// RuntimesConfig says what this agent may start.
type RuntimesConfig struct {
	Allow []AllowRule `yaml:"allow" json:"allow"`
}

// AllowRule permits one runtime kind, and of it only the given programs: a path,
// or a directory that ends in a slash. No commands permit every program.
type AllowRule struct {
	Kind     string   `yaml:"kind" json:"kind"`
	Commands []string `yaml:"commands" json:"commands,omitempty"`
	// Networks are open, beside the public ones, to what a built-in handler reads
	// for a job by address; prefixes such as 10.1.0.0/16.
	Networks []string `yaml:"networks" json:"networks,omitempty"`
}

// HTTPConfig is where /metrics and /healthz listen; "off" is nowhere.
type HTTPConfig struct {
	Listen string `yaml:"listen" json:"listen"`
}

// LogConfig is the log's level and format, as everywhere.
type LogConfig struct {
	Level  string `yaml:"level" json:"level,omitempty"`
	Format string `yaml:"format" json:"format,omitempty"`
}

// DefaultListen is where an agent's metrics are (DESIGN 7).
const DefaultListen = "127.0.0.1:7410"

// ListenOff turns the agent's own HTTP off.
const ListenOff = "off"

// maxSlots bounds jobs at once; beyond it the held set of every beat would no
// longer be small.
const maxSlots = 1024

// Defaults fills what was left out: the host's name, one slot, automatic GPUs.
func (c *Config) Defaults() {
	if c.Name == "" {
		c.Name, _ = os.Hostname() // Validate refuses an empty name
	}
	if c.Slots == 0 {
		c.Slots = 1
	}
	if c.GPU.Mode == "" {
		c.GPU.Mode = "auto"
	}
	if c.HTTP.Listen == "" {
		c.HTTP.Listen = DefaultListen
	}
	if len(c.Runtimes.Allow) == 0 {
		c.Runtimes.Allow = []AllowRule{{Kind: "builtin"}}
	}
}

// Validate says everything that is wrong, each with its remedy.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" {
		bad("name is empty: set it, or give the host a name")
	}
	if c.Data == "" {
		bad("data is empty: name a directory that the agent may write")
	}
	if c.Slots < 1 || c.Slots > maxSlots {
		bad("slots is %d: use a number from 1 to %d", c.Slots, maxSlots)
	}
	if !slices.Contains([]string{"auto", "required", "none"}, c.GPU.Mode) {
		bad("gpu.mode is %q: use auto, required or none", c.GPU.Mode)
	}
	for i, r := range c.Runtimes.Allow {
		if r.Kind == "" {
			bad("runtimes.allow[%d].kind is empty: name a runtime kind such as builtin or command", i)
		}
		if _, err := netguard.ParseNetworks(r.Networks); err != nil {
			bad("runtimes.allow[%d].networks: %w", i, err)
		}
		for _, p := range r.Commands {
			if !filepath.IsAbs(p) {
				bad("runtimes.allow[%d].commands has %q: write an absolute path", i, p)
			}
		}
	}
	if c.HTTP.Listen != ListenOff {
		if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil {
			bad("http.listen is %q: use host:port or off", c.HTTP.Listen)
		}
	}
	return errors.Join(errs...)
}

// networks returns those that are open to runtimes of a kind.
func (c *Config) networks(kind string) []string {
	var out []string
	for _, r := range c.Runtimes.Allow {
		if r.Kind == kind {
			out = append(out, r.Networks...)
		}
	}
	return out
}

// permit says why a runtime may not be started here; nil if it may.
func (c *Config) permit(kind string, command []string) error {
	known := false
	for _, r := range c.Runtimes.Allow {
		if r.Kind != kind {
			continue
		}
		known = true
		if len(r.Commands) == 0 || len(command) > 0 && matches(r.Commands, command[0]) {
			return nil
		}
	}
	if !known {
		return fmt.Errorf("runtime kind %q is not in runtimes.allow of this agent", kind)
	}
	if len(command) == 0 {
		return fmt.Errorf("runtime kind %q is only allowed for named commands, and the endpoint has none", kind)
	}
	return fmt.Errorf("command %q is not in runtimes.allow of this agent", command[0])
}

func matches(allowed []string, program string) bool {
	path := program
	if !strings.Contains(path, "/") {
		found, err := exec.LookPath(path)
		if err != nil {
			return false
		}
		path = found
	}
	path = filepath.Clean(path)
	return slices.ContainsFunc(allowed, func(a string) bool {
		return path == filepath.Clean(a) || strings.HasSuffix(a, "/") && strings.HasPrefix(path, a)
	})
}

func (c *Config) kinds() (kinds, commands []string) {
	for _, r := range c.Runtimes.Allow {
		if !slices.Contains(kinds, r.Kind) {
			kinds = append(kinds, r.Kind)
		}
		commands = append(commands, r.Commands...)
	}
	return kinds, commands
}
