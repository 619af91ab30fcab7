#!/bin/sh
# Runs a command that ends when its starter ends, kill -9 included.
#
# The starter holds the write end of the pipe named by TETHER and nobody else does. A reader beside the command waits
# for its end, which comes when the last holder is gone, however it went, and then kills the command. The command
# takes this shell's place, so that signals and exit codes need no passing on. TETHERED names the command where the
# caller can give none.
birth() { cut -d ' ' -f 22 "/proc/$$/stat" 2>/dev/null || ps -o lstart= -p $$; }

born=$(birth)
(
  read -r _ <"$TETHER"
  # The number may belong to another process by now.
  [ "$(birth)" = "$born" ] && kill -9 $$
) </dev/null >/dev/null 2>&1 3>&- &

exec ${TETHERED:+"$TETHERED"} "$@"
