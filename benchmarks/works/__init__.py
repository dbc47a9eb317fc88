"""One file a work: the same model and guide for every tool, each tool a function that gives a step.

A tool's function takes a numpy random generator for data and returns (step, loss): `step()` takes one step of Adam,
`loss()` an estimate of the loss at the parameters of now.
"""
