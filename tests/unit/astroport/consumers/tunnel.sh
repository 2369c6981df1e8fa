#!/bin/bash
# What the tunnel manager lists: one line per script, MACHINE|SLUG|PROTO|NATIVE|ALT|LOGIN|CAPTAIN, sorted.
swarm=${ZEN_HOME:-$HOME/.zen}/tmp/swarm
for folder in "$swarm"/*/; do
  folder=${folder%/}
  id=$(basename "$folder")
  page=$(find "$folder" -maxdepth 1 -name '_MySwarm.*.html' | head -n 1)
  machine=$(basename "$page" | cut -d. -f2)
  captain=""
  [[ $(cat "$folder/12345.json") =~ \"captain\"[[:space:]]*:[[:space:]]*\"([^\"+@]*)(\+[^\"@]*)?(@[^\"]*)?\" ]] &&
    captain=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
  for file in "$folder"/x_*.sh; do
    slug=$(basename "$file" .sh)
    slug=${slug#x_}
    text=$(cat "$file")
    native='????' alt='' login=''
    if [[ $text =~ NATIVE_PORT=\"([0-9]+) ]]; then
      native=${BASH_REMATCH[1]}
    elif [[ $text =~ (PORT|LPORT)=\"([0-9]+) ]]; then
      native=${BASH_REMATCH[2]}
    elif [[ $text =~ tcp/([0-9]+) ]]; then
      native=${BASH_REMATCH[1]}
    fi
    [[ $text =~ ALT_PORT=\"([0-9]+) ]] && alt=${BASH_REMATCH[1]}
    [[ $text =~ REMOTE_USER=\"([^\"]+)\" ]] && login=${BASH_REMATCH[1]}
    echo "$machine|$slug|/x/${slug,,}-$id|$native|$alt|$login|$captain"
  done
done | sort
