"""The registry of distributions: the only place of the compiler that knows them by name."""

from guidedsl.library.distributions import bounded, composite, discrete, matrix, positive, real_line, vector
from guidedsl.library.distributions.rows import Argument, Distribution, Form, Rule

__all__ = ["DISTRIBUTIONS", "Argument", "Distribution", "Form", "Rule"]

DISTRIBUTIONS: dict[str, Distribution] = {
    row.name: row for rows in (real_line, positive, bounded, discrete, vector, matrix, composite) for row in rows.ROWS
}
