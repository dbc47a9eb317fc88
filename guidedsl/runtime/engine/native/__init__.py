"""Many steps of Adam as C: a step's graph in loops, made by the machine's compiler in a second and kept on disk."""
