module dragon.local/older-kubo

go 1.26.0

require github.com/ipfs/kubo v0.40.1
