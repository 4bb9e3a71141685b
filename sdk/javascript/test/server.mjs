import { createServer } from "node:http";

/**
 * A server whose answers a test scripts, for what a real coordinator cannot be made to show: refusals in a given order,
 * cut connections. `answer(request, response, body, n)` is called with the number of the request.
 */
export async function serve(t, answer) {
  const requests = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      requests.push({ method: request.method, url: request.url, headers: request.headers, body });
      answer(request, response, body, requests.length);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }));
  return { requests, baseUrl: `http://127.0.0.1:${server.address().port}` };
}

export function json(response, status, document, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(document));
}
