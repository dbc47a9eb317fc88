"""Simulated ratings of 80 users, five each, from known weights: mu = (1, −0.5), tau = (0.8, 0.3)."""

import json
import random

random.seed(7)
MU, TAU, USERS, RATED = (1.0, -0.5), (0.8, 0.3), 80, 5
x = [[[round(random.gauss(0, 1), 2) for _ in MU] for _ in range(RATED)] for _ in range(USERS)]
u = [[random.gauss(m, t) for m, t in zip(MU, TAU, strict=True)] for _ in range(USERS)]
y = [
    [round(sum(a * b for a, b in zip(row, own, strict=True)) + random.gauss(0, 0.5), 2) for row in rows]
    for rows, own in zip(x, u, strict=True)
]
with open("data.json", "w") as file:
    file.write(json.dumps({"x": x, "y": y}) + "\n")
