"""The part of `x_<slug>.sh` that is the same for every service: bash alone, and `ipfs`.

Which ports are taken is read in the kernel's table, so no client of ours ever connects to somebody's service just to look.
"""

from __future__ import annotations

from typing import Final

DOCKER_BRIDGE: Final = (
    "  local iface net address",
    "  while read -r iface net _; do",
    "    [[ $iface == docker0 && $net =~ ^[0-9A-F]{8}$ && $net != 00000000 ]] || continue",
    '    printf -v address \'%d.%d.%d.%d\' "0x${net:6:2}" "0x${net:4:2}" "0x${net:2:2}" $((0x${net:0:2} + 1))',
    '    ipfs --timeout=10s p2p forward "$PROTO" "/ip4/$address/tcp/$LPORT" "/p2p/$NODE_ID" >/dev/null 2>&1',
    "    return 0",
    "  done </proc/net/route",
)
"""Lines that open the tunnel on docker's bridge too: the first address of docker0's network, where docker puts the host."""

BODY: Final = r"""
say() { printf '%s\n' "$*"; }

# Only these ports are this script's: other forwards of this daemon have their own owners.
is_ours() {
  [[ $1 == "$NATIVE_PORT" ]] || (($1 >= ALT_PORT && $1 < 32000 && ($1 - ALT_PORT) % 1000 == 0))
}

is_taken() {
  local hex table sockets none address
  if [[ ! -r /proc/net/tcp ]]; then
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    return
  fi
  printf -v hex '%04X' "$1"
  for table in tcp tcp6; do
    [[ -r /proc/net/$table ]] || continue
    sockets=$(</proc/net/$table) # at once: line by line, the kernel would begin anew for each
    none=00000000
    [[ $table == tcp ]] || none=00000000000000000000000000000000
    for address in 0100007F 0000000000000000FFFF00000100007F "$none"; do
      [[ $sockets == *" $address:$hex $none:0000 0A "* ]] && return 0
    done
  done
  return 1
}

# Kubo's tunnels, or the end of this script where it does not answer.
look() {
  if ! tunnels=$(ipfs --timeout=5s p2p ls 2>&1); then
    say "ERREUR : Kubo ne répond pas (no answer from Kubo): $tunnels"
    exit 1
  fi
}

# Reads the next of this script's own forwards on descriptor 3 into $listen and $port.
next_ours() {
  local proto target
  while read -r proto listen target _ <&3; do
    [[ $proto == "$PROTO" && $target == "/p2p/$NODE_ID" ]] || continue
    [[ $listen =~ ^/ip4/[0-9.]+/tcp/([1-9][0-9]{0,4})$ ]] || continue
    port=${BASH_REMATCH[1]}
    is_ours "$port" && return 0
  done
  return 1
}

is_active() {
  local listen port
  look
  while next_ours; do
    [[ $listen == /ip4/127.0.0.1/* ]] && is_taken "$port" && LPORT=$port && return 0
  done 3< <(say "$tunnels")
  return 1
}

close_ours() {
  local listen port failed=0
  look
  while next_ours; do
    ipfs --timeout=5s p2p close -p "$PROTO" -l "$listen" -t "/p2p/$NODE_ID" >/dev/null || failed=1
  done 3< <(say "$tunnels")
  return "$failed"
}

connected() {
  say "Port local : $LPORT (Natif: $NATIVE_PORT | Alt: $ALT_PORT)"
  tell_exports
  bridge
  exit 0
}

case "${1-}" in
  [oO][fF][fF] | [sS][tT][oO][pP])
    close_ours
    exit
    ;;
esac

look
if ! ipfs --timeout=5s ping -n 1 "/p2p/$NODE_ID" >/dev/null 2>&1; then
  say "ERREUR : Station injoignable."
  exit 1
fi
if is_active; then
  say "Tunnel $LABEL déjà actif (already active)"
  connected
fi
say "Établissement du tunnel $LABEL..."
reason=""
for step in -1 {0..9}; do
  port=$((step < 0 ? NATIVE_PORT : ALT_PORT + step * 1000))
  if ((port < 1024)) || is_taken "$port"; then continue; fi
  if reason=$(ipfs --timeout=10s p2p forward "$PROTO" "/ip4/127.0.0.1/tcp/$port" "/p2p/$NODE_ID" 2>&1); then
    if is_active; then connected; fi
    close_ours
    break # Kubo took it and does not listen: another port would be no better
  fi
done
say "ERREUR : aucun port local (no local port could be bound) $reason"
exit 1
"""
