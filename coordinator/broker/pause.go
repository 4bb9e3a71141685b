package broker

import "windlass/protocol"

// pause notes that an attempt is to stop at a checkpoint, and tells its agent as
// any other reason to stop.
func (t *term) pause(job protocol.JobID, attempt uint32) error {
	t.lock()
	defer t.unlock()
	l := t.leases[job]
	if l == nil || l.job.Attempt != attempt {
		return protocol.NewError(protocol.CodeConflict, "The attempt has ended").With("jobId", job)
	}
	if l.stop == "" {
		l.stop = protocol.StopPause
		t.touch(l.agent)
	}
	return nil
}
