"""Laboratories of distributed computing: real processes with faults, a simulator, histories, MapReduce, load.

The same node code (`context.Node`) runs in the simulator and as real processes. Needs the standard library only,
no cluster, and knows nothing of the course.
"""
