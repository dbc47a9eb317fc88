"""Pyro models as the densities of interfaces: `model Ratings from pyro "ratings:model"`.

`importing` finds the Python function and decides what it is called with, `probe` runs it once and records what it has,
`differences` compares that with the declarations, `layout` puts draws on Pyro's dims, `handlers` answers the function's
effects, `density` and `summing` evaluate it. Pyro is imported when such a model is first evaluated, and never before.
"""
