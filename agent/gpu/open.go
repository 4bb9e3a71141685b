package gpu

import (
	"context"
	"errors"
	"fmt"
)

// Open finds the GPUs as mode says: none asks nobody; auto takes what is there;
// required refuses a host without a GPU. why is the reason when auto found none.
func Open(ctx context.Context, mode string, probe []string) (src Source, devices []Device, why error, err error) {
	if mode == "none" {
		return None{}, nil, nil, nil
	}
	p := NewProbe(probe)
	devices, why = p.Devices(ctx)
	if why == nil && len(devices) == 0 {
		why = errors.New("the driver reports no GPU")
	}
	if why == nil {
		return p, devices, nil, nil
	}
	closeErr := p.Close()
	if mode == "required" {
		return nil, nil, nil, errors.Join(fmt.Errorf("cannot start without a GPU: %w; set gpu.mode to auto or none for a host without one", why), closeErr)
	}
	return None{}, nil, why, closeErr
}
