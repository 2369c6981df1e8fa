#!/bin/bash
# What a station without Dragon does to find others: reads names, judges the moats, fetches the files, follows the map.
# Usage: discovery.sh CACHE PEER...        prints one line per node: "accepted ID", "silent ID" or "rejected ID"
cache=$1
shift

read_node() {
  local peer=$1 moats
  moats=$(ipfs --timeout 20s cat "/ipns/$peer/_MySwarm.moats" 2>/dev/null | head -c 20)
  if [[ -z $moats ]]; then
    echo "silent $peer"
    return 1
  fi
  if [[ ! $moats =~ ^[0-9]+$ ]]; then
    echo "rejected $peer"
    return 1
  fi
  rm -rf "$cache/.got"
  ipfs --timeout 60s get -o "$cache/.got" "/ipns/$peer/" >/dev/null 2>&1 || return 1
  rm -rf "${cache:?}/$peer"
  mv "$cache/.got" "$cache/$peer"
  echo "accepted $peer"
}

mkdir -p "$cache"
self=$(ipfs id -f '<id>')
for peer in "$@"; do
  read_node "$peer" || continue
  channel=$(jq -r .g1swarm "$cache/$peer/12345.json")
  channel=${channel##*/}
  [[ -n $channel ]] || continue
  for other in $(ipfs --timeout 20s ls "/ipns/$channel" 2>/dev/null | awk '{print $3}' | tr -d /); do
    [[ " $self $* " == *" $other "* ]] || read_node "$other"
  done
done
