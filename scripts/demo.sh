#!/bin/sh
# A real inference result, start to end: starts `windlass dev` on a free port with its own data directory,
# submits stories through the CLI, shows the result and its measured figures, stops everything.
# PROMPT chooses the beginning, COUNT how many stories. Needs bin/windlass (make build) and nothing else.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
windlass=$root/bin/windlass
prompt=${PROMPT:-Once upon a time, a little girl named Lily found a key in the garden.}
count=${COUNT:-20}
limit=55s # the whole demo has 60 s; a machine that needs more has a fault worth seeing

[ -x "$windlass" ] || make -s -C "$root" build
work=$(mktemp -d "${TMPDIR:-/tmp}/windlass-demo.XXXXXX")
dev=

finish() {
	status=$?
	trap - EXIT
	trap '' INT TERM HUP # a second Ctrl-C must not stop the cleaning
	if [ -n "$dev" ]; then
		kill -TERM "$dev" 2>/dev/null || true
		wait "$dev" 2>/dev/null || true
	fi
	if [ "$status" -ne 0 ] && [ -s "$work/dev.log" ]; then
		echo "demo: windlass dev said:" >&2
		tail -n 20 "$work/dev.log" >&2
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A pipe instead of a file: reading waits for the lines, and ends if dev does.
mkfifo "$work/out"
TMPDIR=$work "$windlass" dev --http 127.0.0.1:0 --data "$work/data" >"$work/out" 2>"$work/dev.log" &
dev=$!
exec 3<"$work/out"
while IFS= read -r line <&3; do
	case $line in
	*"export WINDLASS_ADDR="*) WINDLASS_ADDR=${line#*=} ;;
	*"export WINDLASS_API_KEY="*) WINDLASS_API_KEY=${line#*=} ;;
	esac
	[ -z "${WINDLASS_ADDR:-}" ] || [ -z "${WINDLASS_API_KEY:-}" ] || break
done
if [ -z "${WINDLASS_ADDR:-}" ] || [ -z "${WINDLASS_API_KEY:-}" ]; then
	echo "demo: windlass dev did not start" >&2
	exit 1
fi
export WINDLASS_ADDR WINDLASS_API_KEY

echo "windlass dev serves $WINDLASS_ADDR; $count stories from: $prompt" >&2
"$windlass" run ep_story "prompt=$prompt" "count=$count" --wait --text --timeout "$limit"
