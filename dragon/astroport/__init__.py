"""Living beside Astroport: the command language of its connection managers (`*.me.sh`), spoken by `dragon me`.

In: words of a caller, its environment, the control API of the running node. Out: lines, exit codes 0 and 1, the status files
that scripts read below `~/.zen`. Runs in the process of the command: nothing here imports more than the standard library.
"""
