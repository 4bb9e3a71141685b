/** One server-sent event with data. */
export interface ServerEvent {
  id: string | undefined;
  type: string;
  data: string;
}

/** parseEvents reads a text/event-stream. An event that breaks off in the middle is dropped, as the format says. */
export async function* parseEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent, void, void> {
  let event: ServerEvent = { id: undefined, type: "message", data: "" };
  let has = false;
  for await (const line of lines(body)) {
    if (line === "") {
      if (has) yield event;
      event = { id: undefined, type: "message", data: "" };
      has = false;
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") event.id = value;
    else if (field === "event") event.type = value;
    else if (field === "data") {
      event.data = has ? `${event.data}\n${value}` : value;
      has = true;
    }
  }
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let begun: string[] = []; // pieces of a line whose end has not come
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const [first = "", ...more] = decoder.decode(value, { stream: true }).split("\n");
      begun.push(first);
      for (const next of more) {
        yield begun.join("").replace(/\r$/, "");
        begun = [next];
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
