"""Counts, and stops at a checkpoint when it is asked to."""
import time

import windlass


def handler(job):
    began = job.checkpoint or 0
    for n in range(began, job.input["steps"]):
        if job.pausing:
            raise windlass.Pause(n)
        job.progress(100 * n / job.input["steps"])
        time.sleep(0.01)
    return {"began": began}


windlass.run(handler, checkpoint=True)
