# Sourced. is_ours DIR: the process of DIR/pid lives and is an ottla that serves DIR, not another that got its number.
is_ours() {
  local pid; pid="$(cat "$1/pid" 2>/dev/null)" || return 1
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
  tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$(cd "$1" && pwd)/data"
}
