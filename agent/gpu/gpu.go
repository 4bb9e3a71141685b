// Package gpu measures GPUs behind one interface. NVML is only ever called in a
// child process: a symbol that the driver lacks ends the process that asked for
// it, and a hung driver never answers (agent.md 1). See DESIGN.md.
package gpu

import "context"

// Device is one GPU as the driver describes it.
type Device struct {
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	Memory int64  `json:"memory"` // bytes
}

// Sample is one measurement; what the device cannot measure is nil.
type Sample struct {
	UUID        string   `json:"uuid"`
	Utilization *int     `json:"utilization,omitempty"` // percent
	MemoryUsed  *int64   `json:"memoryUsed,omitempty"`  // bytes
	MemoryTotal *int64   `json:"memoryTotal,omitempty"` // bytes
	Temperature *int     `json:"temperature,omitempty"` // degrees Celsius
	Power       *float64 `json:"power,omitempty"`       // watts
}

// Source is where GPU figures come from.
type Source interface {
	// Devices lists the GPUs; none is no error.
	Devices(ctx context.Context) ([]Device, error)
	// Samples measures all of them.
	Samples(ctx context.Context) ([]Sample, error)
	// Close ends the source and waits for what it started.
	Close() error
}

// None is the source of a host without GPUs.
type None struct{}

// Devices implements Source.
func (None) Devices(context.Context) ([]Device, error) { return nil, nil }

// Samples implements Source.
func (None) Samples(context.Context) ([]Sample, error) { return nil, nil }

// Close implements Source.
func (None) Close() error { return nil }
