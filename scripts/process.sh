# Sourced. is_ours DIR: the process of DIR/pid lives and is an ottla that serves what DIR/place names, not another that got its number.
is_ours() {
  local pid; pid="$(cat "$1/pid" 2>/dev/null)" || return 1
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$(cat "$1/place")"
}
# in_use DIR: some process holds the data's lock, whatever DIR/pid says. It is the kernel's word and lasts until the last of the
# broker's files is closed; a dying process loses its command line earlier.
in_use() { [ -e "$1/data/lock" ] && ! flock --nonblock "$1/data/lock" true; }
