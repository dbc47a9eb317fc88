"""What the compiler says: one constructor for each finding, each with a stable code, in the file of its hundred.

A message says what is wrong, the label where, the hint which edit mends it. Callers write `errors.NAME`.
"""

from guidedsl.errors.autos import *
from guidedsl.errors.names import *
from guidedsl.errors.shapes import *
from guidedsl.errors.sites import *
from guidedsl.errors.supports import *
from guidedsl.errors.targets import *
from guidedsl.errors.warnings import *
from guidedsl.errors.wording import be, closest
