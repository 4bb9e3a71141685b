package agent

import (
	"context"
	"time"

	"windlass/agent/gpu"
	"windlass/protocol"
)

// samplePeriod is how often the host and its GPUs are measured (agent.md 6.3);
// jobs are measured by their shims.
const samplePeriod = 5 * time.Second

// telemetry measures the host until ctx ends.
func (a *Agent) telemetry(ctx context.Context) {
	t := time.NewTicker(samplePeriod)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			a.sampleHost()
			a.sampleGPU(ctx)
		}
	}
}

func (a *Agent) sampleHost() {
	s, err := a.sampler.Sample()
	if err != nil {
		a.log.Warn().Err(err).Msg("host cannot be measured")
		return
	}
	a.metrics.host(s)
	a.mu.Lock()
	a.sample = &s
	a.mu.Unlock()
}

func (a *Agent) hostSample() *protocol.HostSample {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sample
}

func (a *Agent) gpuFacts() []protocol.GPUFact {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gpuList
}

// startGPU finds the GPUs, as gpu.mode says.
func (a *Agent) startGPU(ctx context.Context) error {
	src, devices, why, err := gpu.Open(ctx, a.cfg.GPU.Mode, a.deps.ProbeCommand)
	if err != nil {
		return err
	}
	if why != nil {
		a.log.Info().Str("reason", why.Error()).Msg("no GPU is used")
	}
	a.gpus = src
	for _, d := range devices {
		a.gpuList = append(a.gpuList, protocol.GPUFact{UUID: d.UUID, Name: d.Name, Memory: d.Memory})
	}
	return nil
}

func (a *Agent) sampleGPU(ctx context.Context) {
	if len(a.gpuFacts()) == 0 {
		return
	}
	samples, err := a.gpus.Samples(ctx)
	if err != nil {
		a.log.Warn().Err(err).Msg("GPUs cannot be measured")
		return
	}
	a.metrics.gpu(samples)
}
