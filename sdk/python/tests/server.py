"""A server whose answers a test scripts, for what a real coordinator cannot be made to show: refusals in a given order, cut connections."""

import http.server
import json
import threading


class Scripted:
    """answer(handler, n) is called with the number of the request, which is recorded before."""

    def __init__(self, case, answer):
        self.requests = []
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(length)
                scripted.requests.append(self)
                answer(self, len(scripted.requests))

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def json(self, status, document, **headers):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True

            def event(self, event_id, document, kind="status"):
                self.wfile.write(f"id: {event_id}\nevent: {kind}\ndata: {json.dumps(document)}\n\n".encode())
                self.wfile.flush()

            def cut(self):
                self.close_connection = True

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        case.addCleanup(lambda: (self.server.shutdown(), thread.join(), self.server.server_close()))
