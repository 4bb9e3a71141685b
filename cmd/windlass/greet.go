package main

import (
	"fmt"
	"os"
	"strings"
)

// greet says where everything is and what to type first. The exports come
// before the commands, so that both can be pasted in one go.
func (d *devServer) greet() error {
	data := d.data
	if d.temporary {
		data += " (removed at the end; keep it with --data DIR)"
	}
	program := "windlass"
	if strings.Contains(os.Args[0], "/") {
		program = os.Args[0]
	}
	text := fmt.Sprintf(`
  Windlass dev

  URL      %[1]s
  API key  %[2]s
  Data     %[3]s

  In another terminal:

  export WINDLASS_ADDR=%[5]s
  export WINDLASS_API_KEY=%[2]s

  %[4]s run ep_story prompt="Once upon a time" --stream
  %[4]s run ep_document_gen prompt="A fox and a river" pages=3 --wait
  curl -s "%[1]s/v2/endpoints/ep_echo/runasync" -H "Authorization: Bearer $WINDLASS_API_KEY" -H "Content-Type: application/json" -d '{"input": {"hello": "world"}}'

  Ctrl-C stops it.

`, d.urls[0], d.key, data, program, strings.Join(d.urls, ","))
	if _, err := fmt.Fprint(d.app.out, text); err != nil {
		return fmt.Errorf("cannot write to stdout: %w", err)
	}
	return nil
}
