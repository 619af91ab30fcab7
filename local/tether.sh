#!/bin/sh
# Runs a command that ends when the process that started it ends, kill -9 included.
#
# Only that process holds the write end of the named pipe TETHER. A background reader waits for end-of-file, which comes
# when that process is gone for whatever reason, and then kills the command. The command replaces this shell (exec), so
# that signals and exit codes need no forwarding. TETHERED names the command where the caller cannot pass one.
birth() { cut -d ' ' -f 22 "/proc/$$/stat" 2>/dev/null || ps -o lstart= -p $$; }

# Opening a pipe for reading blocks until it has a writer, and the starting process may be gone already. So descriptor 8
# opens it for writing too while 9 opens it for reading; once 8 is closed, 9 sees end-of-file at once in that case.
exec 8<>"$TETHER" 9<"$TETHER" 8>&-
born=$(birth)
(
  read -r _ <&9
  # The process id may have been reused.
  [ "$(birth)" = "$born" ] && kill -9 $$
) </dev/null >/dev/null 2>&1 3>&- &

exec ${TETHERED:+"$TETHERED"} "$@" 9<&-
