"""Random well-formed programs with data, written statement by statement.

`scope` holds what is there to read, `expressions` and `families` write what stands in statements from the registries,
`models` and `guides` write the statements.
"""
