package gpu

import (
	"bufio"
	"encoding/json"
	"io"
)

// ProbeMain is the entry point of `windlass gpu-probe`: it answers requests on
// in until its end. The exit status is 0 when in ended.
func ProbeMain(in io.Reader, out io.Writer) int {
	d, err := openDriver()
	enc := json.NewEncoder(out)
	sc := bufio.NewScanner(in)
	for sc.Scan() {
		var req request
		resp := response{}
		switch jsonErr := json.Unmarshal(sc.Bytes(), &req); {
		case jsonErr != nil:
			resp.Error = jsonErr.Error()
		case err != nil:
			resp.Error, resp.Unavailable = err.Error(), true
		default:
			resp = answer(d, req)
		}
		if enc.Encode(resp) != nil {
			return 1
		}
	}
	if err == nil {
		d.close()
	}
	return 0
}

// driver is what NVML offers; see nvml.go and stub.go.
type driver interface {
	devices() ([]Device, error)
	samples() ([]Sample, error)
	close()
}

func answer(d driver, req request) response {
	var r response
	var err error
	switch req.Ask {
	case "devices":
		r.Devices, err = d.devices()
	case "samples":
		r.Samples, err = d.samples()
	default:
		r.Error = "unknown request " + req.Ask
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}
