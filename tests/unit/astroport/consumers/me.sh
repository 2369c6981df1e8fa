#!/bin/bash
# What the connection managers do with the swarm cache: SERVICE [target] → the id of the node to which a tunnel was opened.
# Nodes in glob order; the target is a number, a part of an id, or nothing (best power_score first); success is the exit code
# of `bash x_SERVICE.sh` and an answer on the usual port, nothing else.
service=$1 target=${2-} swarm=${ZEN_HOME:-$HOME/.zen}/tmp/swarm
usual() { grep -oE '^NATIVE_PORT="[0-9]+' "$1" | cut -d'"' -f2; }
nodes=()
for file in "$swarm"/*/"x_$service.sh"; do
  [[ -f $file ]] || continue
  id=$(basename "$(dirname "$file")")
  [[ $id == "${IPFSNODEID-}" ]] || nodes+=("$id")
done
[[ ${#nodes[@]} -gt 0 ]] || exit 1
score() { jq -r '.capacities.power_score // 0' "$swarm/$1/12345.json" 2>/dev/null || echo 0; }
case $target in
  "") mapfile -t chosen < <(for id in "${nodes[@]}"; do echo "$(score "$id") $id"; done | sort -rn | cut -d' ' -f2) ;;
  *[!0-9]*) mapfile -t chosen < <(printf '%s\n' "${nodes[@]}" | grep -m1 -F -- "$target") ;;
  *) chosen=("${nodes[target - 1]}") ;;
esac
for id in "${chosen[@]}"; do
  ipfs p2p close -p "/x/$service-$id" >/dev/null 2>&1
  bash "$swarm/$id/x_$service.sh" >/dev/null 2>&1 || continue
  (exec 3<>"/dev/tcp/127.0.0.1/$(usual "$swarm/$id/x_$service.sh")") 2>/dev/null && echo "$id" && exit 0
done
exit 1
