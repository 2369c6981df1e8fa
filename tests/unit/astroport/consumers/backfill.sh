#!/bin/bash
# What the constellation backfill reads: authors (HEX), then peers as localhost:ID:SCRIPT or routable:URL.
swarm=${ZEN_HOME:-$HOME/.zen}/tmp/swarm
find "$swarm" -name 12345.json | sort | while read -r json; do
  for key in captainHEX NODEHEX; do
    hex=$(jq -r ".$key // empty" "$json" 2>/dev/null)
    [[ $hex =~ ^[0-9a-f]{64}$ ]] && echo "author $hex"
  done
  relay=$(jq -r '.myRELAY // empty' "$json") id=$(jq -r '.ipfsnodeid // empty' "$json")
  [[ -n $relay && -n $id && $id != "${IPFSNODEID-}" ]] || continue
  if [[ $relay == *ws://127.0.0.1:7777* ]]; then
    [[ -f $swarm/$id/x_strfry.sh ]] && echo "localhost:$id:$swarm/$id/x_strfry.sh"
  else
    echo "routable:$relay"
  fi
done
