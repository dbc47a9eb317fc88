"""One file a work: the same model and guide for every tool.

`SPEC` is our program with its `MODEL` and `GUIDE`, `fields()` the data. `pyro_pair(data)` and `numpyro_pair(data)` give
a model and a guide; `lean_loss(data)`, where it is there, the leaves and the loss as written by hand in torch.
"""
