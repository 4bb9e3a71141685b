//go:build !(linux && cgo)

package gpu

import "errors"

// openDriver refuses: NVML needs cgo on Linux.
func openDriver() (driver, error) {
	return nil, errors.New("this build has no NVML support; install the build for GPU hosts")
}
