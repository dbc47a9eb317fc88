"""Steps without autograd: a step's operators, recorded once, replayed in place on flat buffers."""
