package api

import "windlass/protocol"

// liveResources is what the job's processes use now. With GPUs the flat memory
// is theirs, as the seed's samples show it; without, the processes'.
func liveResources(u *protocol.Usage, full bool) *protocol.Resources {
	r := &protocol.Resources{CPUUsage: ptr(round1(u.CPUPercent))}
	used, total := u.Memory, u.HostMemory
	if len(u.GPUs) > 0 {
		used, total = 0, 0
		sum, measured := 0, 0
		for _, g := range u.GPUs {
			used, total = used+g.MemoryUsedBytes, total+g.MemoryTotalBytes
			if g.Utilization != nil {
				sum, measured = sum+*g.Utilization, measured+1
			}
		}
		if measured > 0 {
			r.GPUUtilization = ptr(sum / measured)
		}
		r.GPUType = u.GPUs[0].Type
	}
	if used > 0 {
		r.MemoryUsage, r.MemoryUsageBytes = protocol.FormatBytes(used), used
	}
	if total > 0 {
		r.MemoryTotal, r.MemoryTotalBytes = protocol.FormatBytes(total), total
	}
	if full {
		r.GPUs = u.GPUs
		r.CPU = &protocol.CPUUsage{Utilization: round1(u.CPUPercent), Cores: u.Cores,
			Memory: protocol.FormatBytes(u.HostMemory), MemoryBytes: u.HostMemory}
	}
	return r
}

// peakResources is what the job's processes used at most.
func peakResources(u *protocol.Usage, full bool) *protocol.Resources {
	r := &protocol.Resources{TotalComputeTime: ptr(seconds(u.CPUMs))}
	if u.PeakMemory > 0 {
		r.PeakMemoryUsage, r.PeakMemoryBytes = protocol.FormatBytes(u.PeakMemory), u.PeakMemory
	}
	for i, g := range u.GPUs {
		if g.Utilization != nil && (r.PeakGPUUtilization == nil || *g.Utilization > *r.PeakGPUUtilization) {
			r.PeakGPUUtilization = g.Utilization
		}
		if i == 0 {
			r.GPUType = g.Type
		}
	}
	if full {
		r.GPUs = u.GPUs
	}
	return r
}
