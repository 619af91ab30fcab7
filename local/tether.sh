#!/bin/sh
# Runs a command that ends when its starter ends, kill -9 included.
#
# The starter holds the write end of the pipe named by TETHER and nobody else does. A reader beside the command waits
# for its end, which comes when the holder is gone, however it went, and then kills the command. The command takes
# this shell's place, so that signals and exit codes need no passing on. TETHERED names the command where the caller
# can give none.
birth() { cut -d ' ' -f 22 "/proc/$$/stat" 2>/dev/null || ps -o lstart= -p $$; }

# Opening for reading alone would wait for ever if the starter were gone by now; so does nothing while a writer, 8, is
# there, and without it the reader, 9, sees the end at once.
exec 8<>"$TETHER" 9<"$TETHER" 8>&-
born=$(birth)
(
  read -r _ <&9
  # The number may belong to another process by now.
  [ "$(birth)" = "$born" ] && kill -9 $$
) </dev/null >/dev/null 2>&1 3>&- &

exec ${TETHERED:+"$TETHERED"} "$@" 9<&-
