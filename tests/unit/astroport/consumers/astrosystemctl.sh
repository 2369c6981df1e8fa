#!/bin/bash
# What astrosystemctl lists for a service: ID POWER RATIO CAPTAIN IP LAT LON, most powerful first.
# A candidate has a 12345.json whose dragon_services names the service, and the script beside it.
service=$1 swarm=${ZEN_HOME:-$HOME/.zen}/tmp/swarm
for json in "$swarm"/*/12345.json; do
  folder=$(dirname "$json")
  offered=$(jq -r '.dragon_services // ""' "$json") || continue
  [[ $offered == *"$service"* && -f $folder/x_$service.sh ]] || continue
  jq -r --arg id "$(basename "$folder")" \
    '[$id, (.capacities.power_score // 0), (.capacities.value_ratio // 0), .captain, (.myIP // "-"), .STATION_LAT, .STATION_LON] | map(tostring) | join(" ")' "$json"
done | sort -k2,2 -rn
