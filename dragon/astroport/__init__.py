"""Living beside Astroport: the command language of its connection managers (`*.me.sh`), spoken by `dragon me`.

In: words of a caller, its environment, the control API of the running node. Out: lines, exit codes 0 and 1, the status files
that scripts read below `~/.zen`. It runs in the process of the command, so it imports no more than the standard library.
"""
