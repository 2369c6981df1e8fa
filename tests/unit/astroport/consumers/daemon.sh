#!/bin/bash
# How another station's _12345.sh judges a balise that it fetched: BALISE → "kept CHAN", or why not.
# And what it says of its own scripts: the list for dragon_services.
balise=$1 now=${NOW:-$(date +%s)}
moats=$(head -c 20 "$balise/_MySwarm.moats")
[[ -n $moats ]] || { echo "unreachable"; exit 1; }
[[ $moats =~ ^[0-9]+$ ]] || { echo "REJECTED Non-conforming Astroport Metadata"; exit 1; }
((now - moats <= 43200)) || { echo "stale"; exit 1; }
swarm=$(jq -r .g1swarm "$balise/12345.json")
echo "kept ${swarm##*/}"
services=""
for file in "$balise"/x_*.sh; do
  name=$(basename "$file" .sh)
  services=$services,${name#x_}
done
echo "services ${services#,}"
