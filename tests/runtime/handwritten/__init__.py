"""Modules in the exact shape that the compiler generates, written by hand."""
