package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"windlass/inference"
	"windlass/protocol"
)

// inherited are the only variables of the agent's own environment that a
// runtime gets; the rest may hold credentials.
func inherited() []string { return []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"} }

// maxEnvFile bounds a value that is read from a file.
const maxEnvFile = 64 << 10

// spec makes the specification of an endpoint's instances; values are resolved
// here and never leave the host.
func (a *Agent) spec(doc protocol.Endpoint) (inference.Spec, error) {
	env, err := resolveEnv(doc.Runtime.Env)
	if err != nil {
		return inference.Spec{}, fmt.Errorf("cannot prepare endpoint %s: %w", doc.ID, err)
	}
	return inference.Spec{
		Endpoint: protocol.EndpointName(doc.Org, doc.ID), Revision: doc.Revision, Runtime: doc.Runtime, Concurrency: max(1, doc.Concurrency),
		Env: env, Executable: a.deps.Executable, StartLimit: doc.Timeouts.Start.Std(), StallLimit: doc.Timeouts.Stall.Std(),
		Networks: a.cfg.networks(doc.Runtime.Kind),
	}, nil
}

func resolveEnv(values map[string]protocol.EnvValue) ([]string, error) {
	out := make(map[string]string)
	for _, k := range inherited() {
		if v, ok := os.LookupEnv(k); ok {
			out[k] = v
		}
	}
	for k, v := range values {
		switch {
		case v.FromFile != "":
			st, err := os.Stat(v.FromFile)
			if err == nil && st.Size() > maxEnvFile {
				err = fmt.Errorf("%s is larger than %d bytes", v.FromFile, maxEnvFile)
			}
			if err != nil {
				return nil, fmt.Errorf("cannot read environment variable %s: %w", k, err)
			}
			b, err := os.ReadFile(v.FromFile)
			if err != nil {
				return nil, fmt.Errorf("cannot read environment variable %s: %w", k, err)
			}
			out[k] = strings.TrimRight(string(b), "\r\n")
		case v.FromEnv != "":
			s, ok := os.LookupEnv(v.FromEnv)
			if !ok {
				return nil, fmt.Errorf("cannot read environment variable %s: %s is not set on this agent", k, v.FromEnv)
			}
			out[k] = s
		default:
			out[k] = v.Literal
		}
	}
	env := make([]string, 0, len(out))
	for k, v := range out {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env, nil
}
