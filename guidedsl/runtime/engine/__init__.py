"""How steps are computed: eagerly, or as compiled graphs, on the same noise."""
