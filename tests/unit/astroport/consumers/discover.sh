#!/bin/bash
# What SWARM.discover accepts: a node whose document has these keys, not null, and is at most 7 days old.
# Prices go through the shell's arithmetic there, so they must be numbers. ID TOTAL SERVICES uSPOT.
swarm=${ZEN_HOME:-$HOME/.zen}/tmp/swarm now=${NOW:-$(date +%s)}
for folder in "$swarm"/*/; do
  json=${folder}12345.json
  jq -e . "$json" >/dev/null || continue
  whole=1
  for key in ipfsnodeid captain PAF NCARD ZCARD uSPOT; do
    [[ $(jq -r ".$key" "$json") != null ]] || whole=0
  done
  created=$(jq -r .created "$json")
  ((whole && now - created <= 7 * 86400)) || continue
  total=$(($(jq -r .NCARD "$json") + $(jq -r .ZCARD "$json")))
  services=$(cd "$folder" && for each in x_*.sh; do echo "${each:2:-3}"; done | paste -sd,)
  echo "$(jq -r .ipfsnodeid "$json") $total $services $(jq -r .uSPOT "$json")"
done
