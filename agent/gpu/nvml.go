//go:build linux && cgo

package gpu

// #cgo CFLAGS: -Wno-deprecated-declarations
import "C"

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlDriver is one initialised NVML. Only symbols of the loaded library may be
// called: any other ends the process (agent.md 1.1).
type nvmlDriver struct {
	lib nvml.Interface
	has map[string]bool
}

// symbols lists every function that may be called after Init.
func symbols() []string {
	return []string{
		"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName",
		"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates",
		"nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage", "nvmlShutdown",
	}
}

// openDriver initialises NVML once for the life of the process.
func openDriver() (driver, error) {
	lib := nvml.New()
	if ret := lib.Init(); ret != nvml.SUCCESS {
		// After a failed Init no other call is safe, not even the error's text.
		return nil, fmt.Errorf("NVML cannot be initialised: %s", reason(ret))
	}
	d := &nvmlDriver{lib: lib, has: make(map[string]bool)}
	for _, s := range symbols() {
		d.has[s] = lib.Extensions().LookupSymbol(s) == nil
	}
	for _, s := range []string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetName"} {
		if !d.has[s] {
			return nil, fmt.Errorf("the GPU driver is too old: it lacks %s", s)
		}
	}
	return d, nil
}

// reason names the failures of Init that an operator can act on.
func reason(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "the library libnvidia-ml.so.1 is not installed"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the driver is not loaded"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "library and driver have different versions; reboot or reload the module"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission to talk to the driver"
	case nvml.ERROR_OPERATING_SYSTEM:
		return "the operating system blocks the device"
	default:
		return fmt.Sprintf("error %d", int(ret))
	}
}

func (d *nvmlDriver) each(do func(nvml.Device, string) error) error {
	n, ret := d.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return fmt.Errorf("cannot count GPUs: %s", d.lib.ErrorString(ret))
	}
	for i := range n {
		dev, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // lost: what cannot be read is absent
		}
		uuid, ret := dev.GetUUID()
		if ret != nvml.SUCCESS {
			continue
		}
		if err := do(dev, uuid); err != nil {
			return err
		}
	}
	return nil
}

func (d *nvmlDriver) devices() ([]Device, error) {
	var out []Device
	err := d.each(func(dev nvml.Device, uuid string) error {
		g := Device{UUID: uuid}
		if name, ret := dev.GetName(); ret == nvml.SUCCESS {
			g.Name = name
		}
		if _, total, ok := d.memory(dev); ok {
			g.Memory = total
		}
		out = append(out, g)
		return nil
	})
	return out, err
}

func (d *nvmlDriver) samples() ([]Sample, error) {
	var out []Sample
	err := d.each(func(dev nvml.Device, uuid string) error {
		out = append(out, d.sample(dev, uuid))
		return nil
	})
	return out, err
}

func (d *nvmlDriver) sample(dev nvml.Device, uuid string) Sample {
	s := Sample{UUID: uuid}
	if used, total, ok := d.memory(dev); ok {
		s.MemoryUsed, s.MemoryTotal = &used, &total
	}
	if d.has["nvmlDeviceGetUtilizationRates"] {
		if u, ret := dev.GetUtilizationRates(); ret == nvml.SUCCESS {
			v := int(u.Gpu)
			s.Utilization = &v
		}
	}
	if d.has["nvmlDeviceGetTemperature"] {
		if t, ret := dev.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
			v := int(t)
			s.Temperature = &v
		}
	}
	if d.has["nvmlDeviceGetPowerUsage"] {
		if mw, ret := dev.GetPowerUsage(); ret == nvml.SUCCESS {
			v := float64(mw) / 1000
			s.Power = &v
		}
	}
	return s
}

func (d *nvmlDriver) memory(dev nvml.Device) (used, total int64, ok bool) {
	if d.has["nvmlDeviceGetMemoryInfo_v2"] {
		if m, ret := dev.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			return int64(m.Used), int64(m.Total), true
		}
	}
	if d.has["nvmlDeviceGetMemoryInfo"] {
		if m, ret := dev.GetMemoryInfo(); ret == nvml.SUCCESS {
			return int64(m.Used), int64(m.Total), true
		}
	}
	return 0, 0, false
}

func (d *nvmlDriver) close() {
	if d.has["nvmlShutdown"] {
		_ = d.lib.Shutdown()
	}
}
