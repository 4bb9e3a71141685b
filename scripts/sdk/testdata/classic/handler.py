"""Yields, sleeps, fails and echoes, as its input says."""
import time

import windlass


def handler(job):
    for n in range(job.input.get("yields", 0)):
        job.chunk({"n": n})
        time.sleep(0.02)
    end = time.monotonic() + job.input.get("sleep", 0)
    job.progress(50, step="half way")
    while time.monotonic() < end:
        job.check()
        time.sleep(0.01)
    if "fail" in job.input:
        raise windlass.Error("BROKEN", job.input["fail"])
    return {"echo": job.input}


windlass.run(handler)
