package gpu

import (
	"context"
	"sync"
)

// Fake is a source for tests.
type Fake struct {
	mu      sync.Mutex
	devices []Device
	samples []Sample
	err     error
}

// NewFake returns a source with the given GPUs.
func NewFake(devices ...Device) *Fake { return &Fake{devices: devices} }

// Set replaces what the source measures, or makes it fail.
func (f *Fake) Set(samples []Sample, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.samples, f.err = samples, err
}

// Devices implements Source.
func (f *Fake) Devices(context.Context) ([]Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.devices, f.err
}

// Samples implements Source.
func (f *Fake) Samples(context.Context) ([]Sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.samples, f.err
}

// Close implements Source.
func (f *Fake) Close() error { return nil }
