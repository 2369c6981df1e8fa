"""The registry: what everybody in the swarm says, verified and kept (the view), and how it comes and goes.

Nothing enters the view but through its one admission; nothing leaves this node but through its one publisher.
"""
