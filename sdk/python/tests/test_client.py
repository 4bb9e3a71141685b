import asyncio
import json
import os
import threading
import time
import unittest
import warnings
from unittest import mock

import tensorone
from server import Scripted

KEY = "test-key-of-sixteen"
SUBMITTED = {"jobId": "job_1", "taskId": "job_1", "status": "queued", "endpointId": "ep_x", "priority": "normal"}


def client(url, **options):
    return tensorone.TensorOneClient(api_key=KEY, base_url=url, **options)


class Calls(unittest.TestCase):
    def test_a_repeated_submit_carries_the_same_key(self):
        def answer(h, n):
            if n == 1:
                return h.cut()
            if n == 2:
                return h.json(503, {"error": "NO_LEADER", "message": "none", "details": {"outcome": "unknown"}})
            h.json(200, SUBMITTED)

        server = Scripted(self, answer)
        with client(server.url + "/v2/") as c:
            job = c.endpoints.execute_async(endpoint_id="ep_x", input={"prompt": "Hi"}, callback_url="https://x/y", tags={"user_id": "u"})
        self.assertEqual(job.job_id, "job_1")
        self.assertEqual(len(server.requests), 3)
        first = server.requests[0]
        self.assertEqual(first.path, "/v2/endpoints/ep_x/runasync")
        self.assertEqual(first.headers["Authorization"], f"Bearer {KEY}")
        self.assertEqual(json.loads(first.body), {"input": {"prompt": "Hi"}, "callbackUrl": "https://x/y", "tags": {"user_id": "u"}})
        self.assertEqual(len({r.headers["Idempotency-Key"] for r in server.requests}), 1)

    def test_a_retry_of_a_job_is_not_repeated_when_it_may_have_happened(self):
        server = Scripted(self, lambda h, n: h.cut())
        with client(server.url) as c, self.assertRaises(tensorone.ConnectionFailed):
            c.jobs.retry("job_1")
        self.assertEqual(len(server.requests), 1)

    def test_retry_after_is_obeyed_and_a_long_one_is_the_callers(self):
        def answer(h, n):
            if n == 1:
                return h.json(429, {"error": "RATE_LIMIT_EXCEEDED", "message": "slow"}, Retry_After="1")
            h.json(429, {"error": "QUEUE_FULL", "message": "full", "details": {"queueSize": 1000, "retryAfter": 60}})

        server = Scripted(self, answer)
        with client(server.url) as c, self.assertRaises(tensorone.QueueFullError) as caught:
            c.jobs.get_status("job_1")
        self.assertEqual((caught.exception.retry_after, caught.exception.details["queueSize"]), (60, 1000))
        self.assertEqual(len(server.requests), 2)

    def test_errors_have_a_class_a_code_and_details(self):
        kinds = {
            401: tensorone.AuthenticationError, 402: tensorone.InsufficientCreditsError, 403: tensorone.PermissionDenied,
            404: tensorone.NotFoundError, 409: tensorone.ConflictError, 422: tensorone.ValidationError, 507: tensorone.StorageLimitError,
        }
        server = Scripted(self, lambda h, n: h.json(int(h.path.split("/")[3]), {"error": "CODE", "message": "text", "details": {"a": 1}, "requestId": "r"}))
        with client(server.url) as c:
            for status, kind in kinds.items():
                with self.assertRaises(kind) as caught:
                    c.jobs.get_status(str(status))
                error = caught.exception
                self.assertEqual((error.code, error.message, error.details, error.request_id, error.status), ("CODE", "text", {"a": 1}, "r", status))

    def test_another_address_is_asked_when_one_is_gone(self):
        server = Scripted(self, lambda h, n: h.json(200, {"jobId": "j", "status": "running"}))
        with client("http://127.0.0.1:1," + server.url) as c:
            self.assertEqual(c.jobs.get_status("j").status, "running")

    def test_connections_are_kept(self):
        server = Scripted(self, lambda h, n: h.json(200, {"jobId": "j", "status": "running"}))
        with client(server.url) as c:
            for _ in range(5):
                c.jobs.get_status("j")
        self.assertEqual(len({r.client_address for r in server.requests}), 1)

    def test_a_batch_is_a_list_with_errors_beside_it(self):
        answer = {"jobs": [{"jobId": "a", "status": "completed", "resources": {"gpuUtilization": 5, "memoryUsage": "1GB"}}], "errors": [{"jobId": "b"}]}
        server = Scripted(self, lambda h, n: h.json(200, answer))
        with client(server.url) as c:
            statuses = c.jobs.get_batch_status(job_ids=["a", "b"], include=["metrics"])
        self.assertEqual([s.job_id for s in statuses], ["a"])
        self.assertEqual((statuses[0].resources.gpu_utilization, statuses[0].resources.memory_usage), (5, "1GB"))
        self.assertEqual(statuses.errors[0]["jobId"], "b")

    def test_wait_gives_up_in_time(self):
        server = Scripted(self, lambda h, n: h.json(200, {"jobId": "j", "status": "running", "revision": "7.1"}))
        with client(server.url) as c, self.assertRaises(TimeoutError):
            c.jobs.wait("j", timeout=0.05)
        self.assertIn("revision=7.1", server.requests[-1].path)

    def test_the_third_look_at_an_ended_job_is_warned_of_once(self):
        server = Scripted(self, lambda h, n: h.json(200, {"jobId": "j", "status": "timeout"}))
        with client(server.url) as c, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(6):
                c.jobs.get_status("j")
        self.assertEqual(len(caught), 1)

    def test_bad_settings_say_what_to_do(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("TENSORONE_API_KEY", None)
            with self.assertRaisesRegex(ValueError, "TENSORONE_API_KEY"):
                tensorone.TensorOneClient()
        with self.assertRaisesRegex(ValueError, "http://"):
            client("localhost:7400")
        with self.assertRaisesRegex(ValueError, "empty"), client("http://127.0.0.1:1") as c:
            c.jobs.get_status("")

    def test_a_number_that_json_lacks_is_refused_here(self):
        with client("http://127.0.0.1:1") as c, self.assertRaises(ValueError):
            c.endpoints.execute_async("ep_x", input={"x": float("nan")})


class Streams(unittest.TestCase):
    def broken(self):
        def answer(h, n):
            h.stream()
            if n == 1:
                h.wfile.write(b": hello\n\n")
                return h.event("1.1.0", {"jobId": "j", "status": "running", "progress": 10, "currentStep": "writing"})
            h.event("2.1.0", {"seq": 0}, "output")
            h.event("3.1.0", {"jobId": "j", "status": "failed", "error": {"message": "ü"}})

        return Scripted(self, answer)

    def test_a_broken_stream_goes_on_where_it_was(self):
        server = self.broken()
        with client(server.url) as c:
            seen = list(c.jobs.watch_status("j"))
        self.assertEqual([(s.progress, s.current_step, s.done) for s in seen], [(10, "writing", False), (None, None, True)])
        self.assertEqual(str(seen[1].error), "ü")
        self.assertEqual(server.requests[1].headers["Last-Event-ID"], "1.1.0")

    def test_the_same_client_streams_asynchronously(self):
        server = self.broken()

        async def main():
            return [update.status async for update in client(server.url).jobs.stream_status("j")]

        self.assertEqual(asyncio.run(main()), ["running", "failed"])

    def test_leaving_the_loop_closes_the_connection(self):
        gone = threading.Event()

        def answer(h, n):
            h.stream()
            h.event("1", {"jobId": "j", "status": "running"})
            while h.rfile.read(1):
                pass
            gone.set()

        server = Scripted(self, answer)

        async def main():
            async for _ in client(server.url).jobs.stream_status("j"):
                break
            await asyncio.to_thread(gone.wait, 10)

        asyncio.run(main())
        self.assertTrue(gone.is_set())
        gone.clear()
        for _ in client(server.url).jobs.stream_status("j"):
            break
        self.assertTrue(gone.wait(10))

    def test_nothing_more_and_nobody(self):
        def answer(h, n):
            if "ended" in h.path:
                h.send_response(204)
                h.end_headers()
            else:
                h.json(404, {"error": "JOB_NOT_FOUND", "message": "m"})

        server = Scripted(self, answer)
        with client(server.url) as c:
            self.assertEqual(list(c.jobs.stream_status("ended")), [])
            with self.assertRaises(tensorone.NotFoundError):
                list(c.jobs.stream_status("nobody"))


class Models(unittest.TestCase):
    def test_known_fields_are_none_and_unknown_ones_an_error(self):
        status = tensorone.JobStatus({"jobId": "j", "metadata": {"pagesGenerated": 3}, "coldStart": {"cacheHit": False}, "outputs": 1})
        self.assertIsNone(status.resources)
        self.assertEqual(status.metadata, {"pagesGenerated": 3})
        self.assertIs(status.cold_start.cache_hit, False)
        self.assertEqual(status["jobId"], "j")
        self.assertEqual(status.to_dict()["outputs"], 1)
        with self.assertRaises(AttributeError):
            status.no_such_field
        self.assertIn("current_step", dir(status))


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_every_method_can_be_awaited(self):
        def answer(h, n):
            if h.path.startswith("/v2/jobs?"):
                return h.json(200, {"data": [{"jobId": str(n), "status": "completed"}], **({"nextCursor": "c"} if n < 4 else {})})
            h.json(200, {**SUBMITTED, "status": "completed"})

        server = Scripted(self, answer)
        async with tensorone.AsyncTensorOneClient(api_key=KEY, base_url=server.url) as c:
            job = await c.endpoints.execute_async("ep_x", {"a": 1})
            self.assertTrue((await c.jobs.wait(job.job_id)).done)
            self.assertEqual([j.job_id async for j in c.jobs.all(status="completed")], ["3", "4"])


if __name__ == "__main__":
    unittest.main()
