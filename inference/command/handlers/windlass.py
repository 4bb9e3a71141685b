"""Handler helper for Windlass: one file, standard library only.

    import windlass

    def handler(job):
        job.progress(50, step="half way")
        return {"text": job.input["prompt"].upper()}

    windlass.run(handler)          # or run(handler, load=load_model)

Messages go to the descriptor WINDLASS_FD. Standard output is pointed at standard
error, so a stray print is a log line and can never break the channel.
"""

import json
import os
import signal
import sys
import threading
import traceback

MAX_LINE = 1 << 20  # longer outputs go through a file in the job's workdir


class Cancelled(BaseException):
    """Raised in the handler when its job is cancelled; never swallowed by `except Exception`."""


class Pause(BaseException):
    """Raise it with JSON data once job.pausing is true: the job stops, and goes on with job.checkpoint = data."""

    def __init__(self, checkpoint=None):
        super().__init__()
        self.checkpoint = checkpoint


class Error(Exception):
    """A failure with a code; retryable says whether another attempt may help."""

    def __init__(self, code, message, details=None, retryable=False, partial=None):
        super().__init__(message)
        self.code, self.message, self.details = code, message, details
        self.retryable, self.partial = retryable, partial


class _Channel:
    def __init__(self):
        fd = int(os.environ.get("WINDLASS_FD", "0"))
        if fd == 0:  # outside of Windlass: show the messages
            fd = os.dup(1)
        else:
            os.set_inheritable(fd, False)
        sys.stdout.flush()
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # a pipe is block-buffered otherwise
        self._out = os.fdopen(fd, "wb", buffering=0)
        self._lock = threading.Lock()

    def send(self, **message):
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._lock:
            view = memoryview(line)
            while view:
                view = view[self._out.write(view):]
        return len(line)


class Job:
    def __init__(self, channel, message):
        self._channel = channel
        self.id = message["id"]
        self.workdir = message.get("workdir")
        self.output_dir = message.get("outputDir")
        self.deadline = message.get("deadline")
        self._stop = threading.Event()
        self._pause = threading.Event()
        self.s3_config = message.get("s3Config")
        self.checkpoint = message.get("checkpoint")
        if "checkpointFile" in message:
            with open(message["checkpointFile"], encoding="utf-8") as f:
                self.checkpoint = json.load(f)
        if "inputFile" in message:
            with open(message["inputFile"], encoding="utf-8") as f:
                self.input = json.load(f)
        else:
            self.input = message.get("input")

    @property
    def cancelled(self):
        """True once the job is to end; long loops may look at it."""
        return self._stop.is_set()

    @property
    def pausing(self):
        """True once the job is asked to stop at a checkpoint: raise Pause(data) at the next good moment."""
        return self._pause.is_set()

    def check(self):
        """Raise Cancelled once the job is to end."""
        if self._stop.is_set():
            raise Cancelled()

    def progress(self, percent=None, step=None, metadata=None, throughput=None, eta=None):
        self.check()
        fields = dict(percent=percent, step=step, metadata=metadata, throughput=throughput, eta=eta)
        self._channel.send(type="progress", id=self.id, **{k: v for k, v in fields.items() if v is not None})

    def chunk(self, data):
        self.check()
        self._channel.send(type="chunk", id=self.id, data=data)

    def log(self, message):
        self._channel.send(type="log", id=self.id, message=str(message))

    def metric(self, name, value):
        self._channel.send(type="metric", id=self.id, name=name, value=value)

    def file(self, path, name=None):
        """Hand in a file of the job's workdir; it is taken when the job ends."""
        self._channel.send(type="file", id=self.id, path=os.fspath(path), name=name or os.path.basename(path))


def _finish(channel, job, output):
    text = json.dumps(output, allow_nan=False)
    if len(text) < MAX_LINE - 1024:
        channel.send(type="result", id=job.id, output=output)
        return
    path = os.path.join(job.workdir, "output.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    channel.send(type="result", id=job.id, outputFile="output.json")


def _run(channel, handler, job):
    try:
        output = handler(job)
        sys.stdout.flush()
        try:
            _finish(channel, job, output)
        except (TypeError, ValueError) as e:
            channel.send(type="error", id=job.id, code="OUTPUT_INVALID", message="the output is not JSON: %s" % e)
    except (Cancelled, KeyboardInterrupt):
        channel.send(type="error", id=job.id, code="CANCELLED", message="the handler was cancelled")
    except Pause as e:
        if job.pausing:
            channel.send(type="checkpoint", id=job.id, data=e.checkpoint)
        else:
            channel.send(type="error", id=job.id, message="the handler paused and was not asked to")
    except Error as e:
        channel.send(type="error", id=job.id, code=e.code, message=e.message, details=e.details,
                     retryable=e.retryable, partial=e.partial)
    except Exception as e:
        traceback.print_exc()
        channel.send(type="error", id=job.id, message="%s: %s" % (type(e).__name__, e))


def run(handler, load=None, slots=1, checkpoint=False):
    """Serve jobs with handler(job) until the input ends.

    load(), if given, is called once before the first job and is measured as the
    model load. With slots > 1 (the endpoint's concurrency) jobs run in threads.
    checkpoint=True says that the handler looks at job.pausing and raises Pause.
    """
    channel = _Channel()
    channel.send(type="hello", language="python", checkpoint=checkpoint)
    if load is not None:
        channel.send(type="phase", name="modelLoad")
        load()
    wake = threading.Condition()
    waiting, running = [], {}
    ended = [False]

    def read():
        for line in sys.stdin:
            message = json.loads(line)
            with wake:
                if message["type"] == "job":
                    waiting.append(message)
                elif message["type"] == "cancel":
                    job = running.get(message["id"])
                    if job is not None:
                        job._stop.set()
                elif message["type"] == "pause":
                    job = running.get(message["id"])
                    if job is not None:
                        job._pause.set()
                elif message["type"] == "shutdown":
                    break
                wake.notify_all()
        with wake:
            ended[0] = True
            wake.notify_all()

    def work():
        while True:
            try:
                with wake:
                    while not waiting and not ended[0]:
                        wake.wait()
                    if not waiting:
                        return
                    job = Job(channel, waiting.pop(0))
                    running[job.id] = job
            except KeyboardInterrupt:
                continue  # a cancel that came after its job had ended
            try:
                _run(channel, handler, job)
            except KeyboardInterrupt:
                pass  # as above
            finally:
                with wake:
                    running.pop(job.id, None)

    threading.Thread(target=read, daemon=True).start()
    channel.send(type="ready")
    if slots == 1:
        work()  # on the main thread, which gets KeyboardInterrupt
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = [threading.Thread(target=work, daemon=True) for _ in range(slots)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
