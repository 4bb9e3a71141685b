"""Every operation of the Endpoint client of the package runpod, unmodified,
against the server in RUNPOD_ENDPOINT_BASE_URL. Prints "ok NAME" for each."""
import asyncio
import os
import time

import requests
import runpod
from runpod.endpoint.runner import Job

runpod.api_key = os.environ["API_KEY"]
endpoint = runpod.Endpoint("ep_classic")


def until(job, status):
    while job.status() != status:
        time.sleep(0.05)


def run():
    job = endpoint.run({"prompt": "Hello, World!"})
    assert job.output(timeout=60) == {"echo": {"prompt": "Hello, World!"}}, job.output()
    assert job.status() == "COMPLETED"


def run_sync_within_its_wait():
    assert endpoint.run_sync({"input": {"sleep": 1}}, timeout=60) == {"echo": {"sleep": 1}}


def stream():
    job = endpoint.run({"input": {"yields": 20}})
    assert [c["n"] for c in job.stream()] == list(range(20))


def stream_of_a_failure():
    job = endpoint.run({"input": {"yields": 3, "fail": "it broke"}})
    assert [c["n"] for c in job.stream()] == [0, 1, 2]
    assert job.status() == "FAILED"


def failure():
    job = endpoint.run({"input": {"fail": "it broke"}})
    until(job, "FAILED")
    assert job._fetch_job()["error"] == "it broke"


def timeout():
    job = endpoint.run({"input": {"sleep": 60}, "policy": {"executionTimeout": 1000}})
    until(job, "TIMED_OUT")


def cancel():
    job = endpoint.run({"input": {"sleep": 60}})
    until(job, "IN_PROGRESS")
    assert job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    assert job.status() == "CANCELLED"


def health_and_purge_queue():
    blocker = endpoint.run({"input": {"sleep": 60}})
    until(blocker, "IN_PROGRESS")
    queued = [endpoint.run({"input": {"n": n}}) for n in range(3)]
    health = endpoint.health()
    assert health["jobs"]["inQueue"] == 3 and health["jobs"]["inProgress"] == 1, health
    assert health["workers"]["running"] == 1, health
    assert endpoint.purge_queue() == {"removed": 3, "status": "completed"}
    assert [job.status() for job in queued] == ["CANCELLED"] * 3
    blocker.cancel()


def a_bad_key():
    try:
        runpod.Endpoint("ep_classic", api_key="wrong-wrong-wrong-wrong").run({"a": 1})
    except RuntimeError:
        return
    raise AssertionError("it was not refused")


def an_unknown_job():
    try:
        Job("ep_classic", "job_unknown", endpoint.rp_client).status()
    except requests.HTTPError as e:
        assert e.response.status_code == 404
        return
    raise AssertionError("it was not refused")


def asyncio_client():
    async def main():
        async with runpod.http_client.AsyncClientSession() as session:
            job = await runpod.AsyncioEndpoint("ep_classic", session).run({"yields": 3})
            assert [c["n"] async for c in job.stream()] == [0, 1, 2]
            assert await job.status() == "COMPLETED"

    asyncio.run(main())


for test in (run, run_sync_within_its_wait, stream, stream_of_a_failure, failure, timeout, cancel,
             health_and_purge_queue, a_bad_key, an_unknown_job, asyncio_client):
    test()
    print("ok", test.__name__.replace("_", " "), flush=True)
